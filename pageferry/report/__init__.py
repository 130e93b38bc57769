"""One HTML file that answers: a table for each load, the verdict, the pictures, every run."""
