"""Walking the guest's own page tables, which live in guest frames as 8-byte entries."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import memory
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    FRAME_SHIFT,
    PRESENT,
    SUPERPAGE,
    WRITABLE,
    Core,
)

Walk = tuple[int, int, int, int, int, int]
"""(gfn or -1, writable, L3 table, L2 table, L1 table or -1 under a superpage, leaf entry)."""

_FRAME_MASK = (1 << 40) - 1


@kernel
def frame_of(entry: int) -> int:
    """The frame number in a page table entry."""
    return (entry >> FRAME_SHIFT) & _FRAME_MASK


@kernel
def slot_of(va: int, level: int) -> int:
    """The index into a table of `level` (1 to 4) for a virtual address."""
    return (va >> (3 + 9 * level)) & 511


@kernel
def guest_walk(m: Core, va: int) -> Walk:
    """Translate through the tables of the current process; sets no A or D bits."""
    e4 = memory(m)[m.vcpu.cr3 * 512 + slot_of(va, 4)]
    if e4 & PRESENT == 0:
        return -1, 0, -1, -1, -1, 0
    t3 = frame_of(e4)
    e3 = memory(m)[t3 * 512 + slot_of(va, 3)]
    if e3 & PRESENT == 0:
        return -1, 0, t3, -1, -1, 0
    t2 = frame_of(e3)
    e2 = memory(m)[t2 * 512 + slot_of(va, 2)]
    if e2 & PRESENT == 0:
        return -1, 0, t3, t2, -1, 0
    upper = e4 & e3 & e2 & WRITABLE
    if e2 & SUPERPAGE:
        return frame_of(e2) + slot_of(va, 1), upper, t3, t2, -1, e2
    t1 = frame_of(e2)
    e1 = memory(m)[t1 * 512 + slot_of(va, 1)]
    if e1 & PRESENT == 0:
        return -1, 0, t3, t2, t1, e1
    return frame_of(e1), upper & e1, t3, t2, t1, e1


@kernel
def missing_bits(entry: int, leaf: bool, write: int) -> int:
    """The A and D bits that an access would set in an entry that lacks them."""
    wanted = ACCESSED
    if leaf and write != 0:
        wanted |= DIRTY
    return wanted & ~entry
