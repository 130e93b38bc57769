"""Benchmarks: each module with a `main` prints a table of ratios taken side by side."""
