"""What a guest runs: seeded generators of operations; see `catalog` for what there is."""
