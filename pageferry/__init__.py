"""What a person runs: the command line, the result document, the tables, the progress."""
