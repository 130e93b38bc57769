"""Pre-copy itself: from the first page to the proof that all arrived. Knows no network."""
