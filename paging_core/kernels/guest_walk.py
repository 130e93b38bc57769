"""Walking the guest's own page tables, which live in guest frames as 8-byte entries.

Guest memory may hold anything: the guest writes it, or the host that handed it over did.
`frame_of` only cuts bits out. What then reads memory or an array by it comes through one of

    present_frame   hypervisor and hardware: a frame that is not there is not present
    superpage_head  likewise, for all 512 frames of a superpage
    guest_frames    the guest's own kernel (`frame_in`, `superpage_in`): it panics

so no entry leads out of the guest. Entries of *shadow* tables are the hypervisor's own and hold
frame numbers that came this way.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import memory
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    PRESENT,
    SLOT_MASK,
    SUPERPAGE,
    WRITABLE,
    Core,
)
from paging_core.units import FRAME_SHIFT

Walk = tuple[int, int, int, int, int, int]
"""(gfn or -1, writable, L3 table, L2 table, L1 table or -1 under a superpage, leaf entry)."""

_FRAME_MASK = (1 << 40) - 1
HUGE = PRESENT | SUPERPAGE
"""Bits of an L2 entry that maps a superpage; without PRESENT no other bit means anything."""


@kernel
def frame_of(entry: int) -> int:
    """The frame number in a page table entry."""
    return (entry >> FRAME_SHIFT) & _FRAME_MASK


@kernel
def present_frame(m: Core, entry: int) -> int:
    """The frame of the guest that an entry maps; -1 if it is not present, or maps no frame."""
    gfn = frame_of(entry)
    return gfn if entry & PRESENT and gfn < m.n_frames else -1


@kernel
def superpage_head(m: Core, entry: int) -> int:
    """The first of 512 frames of the guest that an entry maps; -1 if it does not.

    Hardware faults on an unaligned superpage (reserved bits).
    """
    gfn = frame_of(entry)
    whole = gfn & SLOT_MASK == 0 and gfn + ENTRIES <= m.n_frames
    return gfn if entry & HUGE == HUGE and whole else -1


@kernel
def slot_of(va: int, level: int) -> int:
    """The index into a table of `level` (1 to 4) for a virtual address."""
    return (va >> (3 + 9 * level)) & SLOT_MASK


@kernel
def guest_walk(m: Core, va: int) -> Walk:
    """Translate through the tables of the current process; sets no A or D bits."""
    e4 = memory(m)[m.vcpu.cr3 * ENTRIES + slot_of(va, 4)]
    t3 = present_frame(m, e4)
    if t3 < 0:
        return -1, 0, -1, -1, -1, 0
    e3 = memory(m)[t3 * ENTRIES + slot_of(va, 3)]
    t2 = present_frame(m, e3)
    if t2 < 0:
        return -1, 0, t3, -1, -1, 0
    e2 = memory(m)[t2 * ENTRIES + slot_of(va, 2)]
    upper = e4 & e3 & e2 & WRITABLE
    if e2 & SUPERPAGE:
        head = superpage_head(m, e2)
        if head < 0:
            return -1, 0, t3, t2, -1, 0
        return head + slot_of(va, 1), upper, t3, t2, -1, e2
    t1 = present_frame(m, e2)
    if t1 < 0:
        return -1, 0, t3, t2, -1, 0
    e1 = memory(m)[t1 * ENTRIES + slot_of(va, 1)]
    return present_frame(m, e1), upper & e1, t3, t2, t1, e1


@kernel
def missing_bits(entry: int, leaf: bool, write: int) -> int:
    """The A and D bits that an access would set in an entry that lacks them."""
    wanted = ACCESSED
    if leaf and write != 0:
        wanted |= DIRTY
    return wanted & ~entry
