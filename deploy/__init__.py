"""What it takes to run both hosts where operators run services."""
