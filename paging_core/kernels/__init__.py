"""The paging model as compiled kernels over arrays; `paging_core.model_guest` drives them.

One write's way through these files: execute → tlb → (shadow_fault | hap) → guest_walk →
groups → bitmap. Cleaning comes from shadow_clean and hap; the guest's own kernel, which
edits the page tables, is guest_kernel.
"""
