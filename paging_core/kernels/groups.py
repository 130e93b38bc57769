"""Page groups: what one fixup fault opens beside the frame that was written.

The group is the aligned run of n around the fault, in one of two spaces:

virtual   (virtual_groups.py)
          shadow L1 entries of the table that faulted (and, above 512, of its neighbours
          under the same shadow L2, as far as they exist). An entry is opened if the guest's
          own entry is present, accessed, writable and dirty, that is, if a prefetch that
          carries WRITE could install it. This is the prefetching fixup proposed in 2009.
physical  gfns. Every frame of the run is marked; every shadow entry that maps it and that
          the guest may write is opened, under HAP its P2M entry. A frame with no shadow entry
          is marked all the same: one that is dirty already is mapped writable at its next
          fault.

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
from paging_core.kernels.density import PHYSICAL, dense_order, dirty_places
from paging_core.kernels.p2m import open_leaf, resolve_misconfig
from paging_core.kernels.state import GUEST_WRITES, HAP, SLOT_MASK, WRITABLE, Core

_OPEN = int(Event.GROUP_OPEN)
_MARK = int(Event.MARK_DIRTY)
_GROUP = int(Cause.GROUP)


@kernel
def group_size(m: Core, page: int, at: int, end: int, gfn: int) -> int:
    """Frames of the group that this fixup may open.

    Args:
        page, at, end: where it was among what places there are, as for `dense_order`.
        gfn: the frame that was written.
    """
    if m.group.adaptive == 0:
        return m.group.frames
    dense = dense_order(m, page, at, end, wanted_density(m, gfn))
    return 1 << max(dense, learned_order(m, gfn))


@kernel
def pay_opened(m: Core, frames: int) -> None:
    """Charge for neighbours that a fixup opened: an entry and a mark in the log for each."""
    pay(m, _OPEN, _GROUP, frames)
    pay(m, _MARK, _GROUP, frames)


@kernel
def triggers_physical(m: Core, gfn: int, n: int) -> bool:
    """Whether enough frames of the run of gfns are dirty, this one among them."""
    if m.group.trigger == 1:
        return True
    first = gfn & ~(n - 1)
    return dirty_places(m, PHYSICAL, first, min(first + n, m.n_frames)) >= m.group.trigger


@kernel
def _open_mappings(m: Core, gfn: int) -> None:
    entry_id = frame_at(m, gfn).rmap
    while entry_id >= 0:
        if entries(m)[entry_id] & GUEST_WRITES:
            entries(m)[entry_id] |= WRITABLE
        entry_id = links(m)[entry_id * 2]


@kernel
def _open_frame(m: Core, gfn: int, hap: bool) -> None:
    if hap:
        open_leaf(m, gfn)
    else:
        _open_mappings(m, gfn)


@kernel
def open_physical_group(m: Core, gfn: int) -> None:
    """Mark the aligned run of gfns around a fixup and open what maps them."""
    n = group_size(m, PHYSICAL, gfn, m.n_frames, gfn)
    if n == 1 or not triggers_physical(m, gfn, n):
        return
    hap = m.paging == HAP
    first = gfn & ~(n - 1)
    opened = 0
    for neighbour in range(first, min(first + n, m.n_frames)):
        if hap and (neighbour == first or neighbour & SLOT_MASK == 0):
            resolve_misconfig(m, neighbour)
        if neighbour == gfn or frame_at(m, neighbour).types != 0:
            continue
        if set_dirty(m, neighbour, WITH_GROUP):
            _open_frame(m, neighbour, hap)
            opened += 1
    pay_opened(m, opened)
