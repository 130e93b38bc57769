"""What a translation is asked for, and what comes of it, under either kind of paging."""

from __future__ import annotations

GUEST_FAULT = -1
"""Result: the guest's own tables forbid the access; its kernel must handle it."""
EMULATE = 1 << 40
"""Added to the gfn in a result: the store goes to a page table and must be emulated."""
BLOCK_WRITE = 2
"""Value of `write` for stores that fill a whole page; 1 is a single word."""
