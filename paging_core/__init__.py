"""The model: guest memory, page tables, shadows, P2M, log-dirty, groups, costs. No network."""
