"""Shadow L1 entries and the reverse map: which entries map a guest frame.

An entry is named by its id, shadow page × 512 + slot. Every present L1 entry is on the
list of the frame that it maps, so write access to a frame is found and revoked without a
search. (Xen has no such list and searches; KVM has.)
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import entries, frame_at, links
from paging_core.kernels.guest_walk import frame_of
from paging_core.kernels.state import DIRTY, ENTRIES, PRESENT, WRITABLE, Core
from paging_core.units import FRAME_SHIFT


@kernel
def _link(m: Core, entry_id: int, gfn: int) -> None:
    head = frame_at(m, gfn).rmap
    links(m)[entry_id * 2] = head
    links(m)[entry_id * 2 + 1] = -1
    if head >= 0:
        links(m)[head * 2 + 1] = entry_id
    frame_at(m, gfn).rmap = entry_id


@kernel
def _unlink(m: Core, entry_id: int, gfn: int) -> None:
    after = links(m)[entry_id * 2]
    before = links(m)[entry_id * 2 + 1]
    if before >= 0:
        links(m)[before * 2] = after
    else:
        frame_at(m, gfn).rmap = after
    if after >= 0:
        links(m)[after * 2 + 1] = before


@kernel
def clear_l1_entry(m: Core, page: int, slot: int) -> None:
    """Remove one entry; what its D bit knew about an opened frame is kept."""
    entry = entries(m)[page * ENTRIES + slot]
    if entry & PRESENT == 0:
        return
    gfn = frame_of(entry)
    if entry & DIRTY:
        frame_at(m, gfn).opened = 0
    _unlink(m, page * ENTRIES + slot, gfn)
    entries(m)[page * ENTRIES + slot] = 0


@kernel
def set_l1_entry(m: Core, page: int, slot: int, gfn: int, flags: int) -> None:
    """Map a frame, or change the flags of the entry that maps it."""
    old = entries(m)[page * ENTRIES + slot]
    if old & PRESENT and frame_of(old) != gfn:
        clear_l1_entry(m, page, slot)
        old = 0
    entries(m)[page * ENTRIES + slot] = (gfn << FRAME_SHIFT) | flags | (old & DIRTY)
    if old & PRESENT == 0:
        _link(m, page * ENTRIES + slot, gfn)


@kernel
def revoke_writes(m: Core, gfn: int) -> int:
    """Clear W and D in every entry that maps the frame; returns how many were writable."""
    revoked = 0
    entry_id = frame_at(m, gfn).rmap
    while entry_id >= 0:
        entry = entries(m)[entry_id]
        if entry & DIRTY:
            frame_at(m, gfn).opened = 0
        if entry & WRITABLE:
            revoked += 1
        entries(m)[entry_id] = entry & ~(WRITABLE | DIRTY)
        entry_id = links(m)[entry_id * 2]
    return revoked


@kernel
def mappings(m: Core, gfn: int) -> int:
    """How many shadow entries map the frame."""
    n = 0
    entry_id = frame_at(m, gfn).rmap
    while entry_id >= 0:
        n += 1
        entry_id = links(m)[entry_id * 2]
    return n
