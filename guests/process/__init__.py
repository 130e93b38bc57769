"""A process as guest: real stores to real memory, at the pace of the real clock."""
