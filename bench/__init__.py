"""Benchmarks: each module with a `main` prints a table of ratios taken side by side.

Their options make them small: `tests/bench` runs each of them so.
"""
