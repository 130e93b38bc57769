"""One HTML file that answers: the verdict first, then the pictures, then every run."""
