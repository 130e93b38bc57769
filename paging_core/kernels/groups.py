"""Page groups: what one fixup fault opens beside the frame that was written.

The group is the aligned run of n around the fault, in one of two spaces:

virtual   shadow L1 entries of the table that faulted (and, above 512, of its neighbours
          under the same shadow L2, as far as they exist). An entry is opened if the guest's
          own entry is present, accessed, writable and dirty, that is, if a prefetch that
          carries WRITE could install it. This is the prefetching fixup proposed in 2009.
physical  gfns. Every frame of the run is marked; every shadow entry that maps it and that
          the guest may write is opened. A frame with no shadow entry is marked all the
          same: a frame that is dirty already is mapped writable at its next fault.

Frames that are shadowed as page tables are never opened. With a trigger of K a group opens
with its K-th dirty frame; adaptive groups have a size of their own for each fixup.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.adaptive import learned_order, wanted_density
from paging_core.kernels.arrays import entries, frame_at, links
from paging_core.kernels.bitmap import WITH_GROUP, set_dirty
from paging_core.kernels.density import PHYSICAL, dense_order, dirty_places, guest_leaf
from paging_core.kernels.guest_walk import frame_of
from paging_core.kernels.shadow_entries import set_l1_entry
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    GUEST_WRITES,
    PRESENT,
    USER,
    WRITABLE,
    Core,
)

_OPEN = int(Event.GROUP_OPEN)
_GROUP = int(Cause.GROUP)
OPENABLE = PRESENT | WRITABLE | ACCESSED | DIRTY
"""Bits that a guest leaf must have before write access is granted without a write."""


@kernel
def _open_slot(m: Core, page: int, slot: int) -> int:
    """Open one entry if the rules allow it; returns how many were opened."""
    entry = entries(m)[page * 512 + slot]
    if entry & WRITABLE:
        return 0
    if entry & PRESENT:
        if entry & GUEST_WRITES == 0:
            return 0
        gfn = frame_of(entry)
    else:
        leaf = guest_leaf(m, page, slot)
        if leaf & OPENABLE != OPENABLE:
            return 0
        gfn = frame_of(leaf)
    if frame_at(m, gfn).types != 0:
        return 0
    flags = PRESENT | WRITABLE | ACCESSED | GUEST_WRITES | USER
    set_l1_entry(m, page, slot, gfn, flags)
    set_dirty(m, gfn, WITH_GROUP)
    return 1


@kernel
def _open_table(m: Core, page: int, first: int, count: int, skip: int) -> None:
    opened = 0
    for slot in range(first, first + count):
        if slot != skip:
            opened += _open_slot(m, page, slot)
    pay(m, _OPEN, _GROUP, opened)


@kernel
def group_size(m: Core, page: int, at: int, end: int, gfn: int) -> int:
    """Frames of the group that this fixup may open.

    Args:
        page, at, end: where it was among what places there are, as for `dense_order`.
        gfn: the frame that was written.
    """
    if m.adaptive == 0:
        return m.group_frames
    dense = dense_order(m, page, at, end, wanted_density(m, gfn))
    return 1 << max(dense, learned_order(m, gfn))


@kernel
def _triggers_virtual(m: Core, page: int, slot: int, parent_id: int, n: int) -> bool:
    """Whether enough frames of the run are dirty, the one of this fixup among them."""
    if m.group_trigger == 1:
        return True
    if n <= 512:
        first = slot & ~(n - 1)
        return dirty_places(m, page, first, first + n) >= m.group_trigger
    found = 0
    first = parent_id & ~((n >> 9) - 1)
    for entry_id in range(first, first + (n >> 9)):
        entry = entries(m)[entry_id]
        if entry & PRESENT:
            found += dirty_places(m, entry >> 12, 0, 512)
    return found >= m.group_trigger


@kernel
def triggers_physical(m: Core, gfn: int, n: int) -> bool:
    """Whether enough frames of the run of gfns are dirty, this one among them."""
    if m.group_trigger == 1:
        return True
    first = gfn & ~(n - 1)
    return dirty_places(m, PHYSICAL, first, min(first + n, m.n_frames)) >= m.group_trigger


@kernel
def open_virtual_group(m: Core, page: int, slot: int, parent_id: int, gfn: int) -> None:
    """Open the aligned run of shadow L1 entries around a fixup.

    Args:
        page, slot: the entry that faulted.
        parent_id: id of the shadow L2 entry through which the fault came.
        gfn: the frame that was written.
    """
    n = group_size(m, page, slot, 512, gfn)
    if n == 1 or not _triggers_virtual(m, page, slot, parent_id, n):
        return
    if n <= 512:
        _open_table(m, page, slot & ~(n - 1), n, slot)
        return
    tables = n >> 9
    first = parent_id & ~(tables - 1)
    for entry_id in range(first, first + tables):
        entry = entries(m)[entry_id]
        if entry & PRESENT:
            neighbour = entry >> 12
            _open_table(m, neighbour, 0, 512, slot if neighbour == page else -1)


@kernel
def _open_mappings(m: Core, gfn: int) -> None:
    entry_id = frame_at(m, gfn).rmap
    while entry_id >= 0:
        if entries(m)[entry_id] & GUEST_WRITES:
            entries(m)[entry_id] |= WRITABLE
        entry_id = links(m)[entry_id * 2]


@kernel
def open_physical_group(m: Core, gfn: int) -> None:
    """Mark the aligned run of gfns around a fixup and open the shadow entries that map it."""
    n = group_size(m, PHYSICAL, gfn, m.n_frames, gfn)
    if n == 1 or not triggers_physical(m, gfn, n):
        return
    first = gfn & ~(n - 1)
    opened = 0
    for neighbour in range(first, min(first + n, m.n_frames)):
        if neighbour == gfn or frame_at(m, neighbour).types != 0:
            continue
        if set_dirty(m, neighbour, WITH_GROUP):
            _open_mappings(m, neighbour)
            opened += 1
    pay(m, _OPEN, _GROUP, opened)
