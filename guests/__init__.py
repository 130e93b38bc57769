"""Guests over memory that is really write-protected, and the kernel interfaces that do it.

A kind of guest is a class that satisfies `paging_core.guest.Guest` in one process. What it knows of
Linux is in `guests.linux`, which knows of no guest; `pageferry.record` stands on that as well.
"""
