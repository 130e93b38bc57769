"""Turning what other tools wrote into traces: written pages as lists, bitmaps, DAMON's regions."""
