"""Linux's interfaces for tracking writes: userfaultfd, PAGEMAP_SCAN, and a fault handler."""
