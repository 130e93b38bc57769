"""Shadow L1 entries and the reverse map: which entries map a guest frame.

An entry is named by its id, shadow page × 512 + slot. Every present L1 entry is on the
list of the frame that it maps, so write access to a frame is found and revoked without a
search. (Xen has no such list and searches; KVM has.)
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.guest_walk import frame_of
from paging_core.kernels.state import DIRTY, PRESENT, WRITABLE, Machine


@kernel
def _link(m: Machine, entry_id: int, gfn: int) -> None:
    head = m.frames[gfn].rmap
    m.links[entry_id, 0] = head
    m.links[entry_id, 1] = -1
    if head >= 0:
        m.links[head, 1] = entry_id
    m.frames[gfn].rmap = entry_id


@kernel
def _unlink(m: Machine, entry_id: int, gfn: int) -> None:
    after = m.links[entry_id, 0]
    before = m.links[entry_id, 1]
    if before >= 0:
        m.links[before, 0] = after
    else:
        m.frames[gfn].rmap = after
    if after >= 0:
        m.links[after, 1] = before


@kernel
def clear_l1_entry(m: Machine, page: int, slot: int) -> None:
    """Remove one entry; what its D bit knew about an opened frame is kept."""
    entry = m.entries[page, slot]
    if entry & PRESENT == 0:
        return
    gfn = frame_of(entry)
    if entry & DIRTY:
        m.frames[gfn].opened = 0
    _unlink(m, page * 512 + slot, gfn)
    m.entries[page, slot] = 0


@kernel
def set_l1_entry(m: Machine, page: int, slot: int, gfn: int, flags: int) -> None:
    """Map a frame, or change the flags of the entry that maps it."""
    old = m.entries[page, slot]
    if old & PRESENT and frame_of(old) != gfn:
        clear_l1_entry(m, page, slot)
        old = 0
    m.entries[page, slot] = (gfn << 12) | flags | (old & DIRTY)
    if old & PRESENT == 0:
        _link(m, page * 512 + slot, gfn)


@kernel
def revoke_writes(m: Machine, gfn: int) -> int:
    """Clear W and D in every entry that maps the frame; returns how many were writable."""
    revoked = 0
    entry_id = m.frames[gfn].rmap
    while entry_id >= 0:
        entry = m.entries[entry_id >> 9, entry_id & 511]
        if entry & DIRTY:
            m.frames[gfn].opened = 0
        if entry & WRITABLE:
            revoked += 1
        m.entries[entry_id >> 9, entry_id & 511] = entry & ~(WRITABLE | DIRTY)
        entry_id = m.links[entry_id, 0]
    return revoked


@kernel
def mappings(m: Machine, gfn: int) -> int:
    """How many shadow entries map the frame."""
    n = 0
    entry_id = m.frames[gfn].rmap
    while entry_id >= 0:
        n += 1
        entry_id = m.links[entry_id, 0]
    return n
