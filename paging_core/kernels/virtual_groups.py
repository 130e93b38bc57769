"""Opening a group of the virtual space: entries of the shadow L1 that faulted, and its neighbours.

And what both shadow MMUs do when a fault has made an entry writable.

What a group is, and which frames it leaves closed: groups.py.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.account import count_fixup
from paging_core.kernels.arrays import entries, frame_at
from paging_core.kernels.bitmap import BY_FIXUP, WITH_GROUP, mark_dirty, set_dirty
from paging_core.kernels.density import dirty_places, guest_leaf
from paging_core.kernels.groups import group_size, open_physical_group, pay_opened
from paging_core.kernels.guest_walk import frame_of
from paging_core.kernels.shadow_entries import set_l1_entry
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    GUEST_WRITES,
    PRESENT,
    USER,
    WRITABLE,
    Core,
)
from paging_core.units import FRAME_SHIFT

OPENABLE = PRESENT | WRITABLE | ACCESSED | DIRTY
"""Bits that a guest leaf must have before write access is granted without a write."""


@kernel
def _open_slot(m: Core, page: int, slot: int) -> int:
    """Open one entry if the rules allow it; returns how many were opened."""
    entry = entries(m)[page * ENTRIES + slot]
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
    pay_opened(m, opened)


@kernel
def _triggers_virtual(m: Core, page: int, slot: int, parent_id: int, n: int) -> bool:
    """Whether enough frames of the run are dirty, the one of this fixup among them."""
    if m.group.trigger == 1:
        return True
    if n <= ENTRIES:
        first = slot & ~(n - 1)
        return dirty_places(m, page, first, first + n) >= m.group.trigger
    found = 0
    first = parent_id & ~((n >> 9) - 1)
    for entry_id in range(first, first + (n >> 9)):
        entry = entries(m)[entry_id]
        if entry & PRESENT:
            found += dirty_places(m, entry >> FRAME_SHIFT, 0, ENTRIES)
    return found >= m.group.trigger


@kernel
def open_virtual_group(m: Core, page: int, slot: int, parent_id: int, gfn: int) -> None:
    """Open the aligned run of shadow L1 entries around a fixup.

    Args:
        page, slot: the entry that faulted.
        parent_id: id of the shadow L2 entry through which the fault came.
        gfn: the frame that was written.
    """
    n = group_size(m, page, slot, ENTRIES, gfn)
    if n == 1 or not _triggers_virtual(m, page, slot, parent_id, n):
        return
    if n <= ENTRIES:
        _open_table(m, page, slot & ~(n - 1), n, slot)
        return
    tables = n >> 9
    first = parent_id & ~(tables - 1)
    for entry_id in range(first, first + tables):
        entry = entries(m)[entry_id]
        if entry & PRESENT:
            neighbour = entry >> FRAME_SHIFT
            _open_table(m, neighbour, 0, ENTRIES, slot if neighbour == page else -1)


@kernel
def log_fixup(m: Core, page: int, slot: int, parent_id: int, gfn: int) -> None:
    """A fault made a shadow entry writable: mark the frame, and open its group if it was clean."""
    if not mark_dirty(m, gfn, BY_FIXUP):
        return
    count_fixup(m)
    if m.group.frames == 1:
        return
    if m.group.virtual:
        open_virtual_group(m, page, slot, parent_id, gfn)
    else:
        open_physical_group(m, gfn)
