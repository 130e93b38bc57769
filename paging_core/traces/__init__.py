"""Memory traces of real programs: importing them, keeping them, replaying them in a guest."""
