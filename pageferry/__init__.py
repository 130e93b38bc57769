"""What users run: the command line, the result document, the tables, the progress."""
