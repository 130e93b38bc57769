"""What tracking its writes costs a program that runs already, page by page and in groups."""
