"""What ships beside the programs: the grids of the published answer and what makes its page."""
