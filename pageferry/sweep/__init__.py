"""Sweeps: many migrations, one for every combination of settings, and one table of results."""
