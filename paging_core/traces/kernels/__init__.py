"""The compiled part of traces: reading lackey's text, and rows as guest operations."""
