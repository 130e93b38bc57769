"""How a migration will go, said before it: two published models and a rehearsal."""
