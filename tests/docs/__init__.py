"""Pages whose statements can be checked."""
