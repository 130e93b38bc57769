"""How much of an aligned run is dirty: of gfns, or of the frames behind shadow L1 entries."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.adaptive import N_ORDERS
from paging_core.kernels.arrays import entries, memory, page_at
from paging_core.kernels.bitmap import is_dirty
from paging_core.kernels.guest_walk import frame_of, present_frame
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    FL1,
    PRESENT,
    USER,
    WRITABLE,
    Core,
)
from paging_core.units import FRAME_SHIFT

PHYSICAL = -1
"""As `page`: places are gfns and not slots of a shadow L1."""

_LOOK = int(Event.D_BIT_SCAN)
_GROUP = int(Cause.GROUP)
_PLACES_PER_LOOK = 64
"""A word of the bitmap, or eight cache lines of entries."""


@kernel
def guest_leaf(m: Core, page: int, slot: int) -> int:
    """The guest entry behind a shadow L1 slot; under a superpage, made up from its L2 entry.

    KVM's direct pages know their superpage's rights by their role, and write only if it is dirty.
    One that maps no frame of the guest is 0: as good as not present.
    """
    p = page_at(m, page)
    if p.kind != FL1:
        entry = memory(m)[p.gfn * ENTRIES + slot]
        if m.kvm.mmu:
            entry &= p.access | ~(WRITABLE | USER)  # the path to it takes part in KVM's role
    elif m.kvm.mmu:
        entry = ((p.gfn + slot) << FRAME_SHIFT) | PRESENT | ACCESSED | p.access
        entry |= DIRTY if p.access & WRITABLE else 0
    else:
        entry = memory(m)[p.key] + (slot << FRAME_SHIFT)
    return entry if present_frame(m, entry) >= 0 else 0


@kernel
def _is_dirty_at(m: Core, page: int, place: int) -> bool:
    if page == PHYSICAL:
        return is_dirty(m, place)
    entry = entries(m)[page * ENTRIES + place]
    if entry & PRESENT == 0:
        entry = guest_leaf(m, page, place)
    return entry & PRESENT != 0 and is_dirty(m, frame_of(entry))


@kernel
def dirty_places(m: Core, page: int, first: int, end: int) -> int:
    """Places from `first` to before `end` whose frame is dirty.

    Args:
        page: the shadow L1 whose slots are meant, or PHYSICAL for gfns.
    """
    found = 0
    for place in range(first, end):
        found += 1 if _is_dirty_at(m, page, place) else 0
    return found


@kernel
def dense_order(m: Core, page: int, at: int, end: int, eighths: int) -> int:
    """log2 of the largest aligned run around a fixup of which so many eighths are dirty.

    Args:
        page: see `dirty_places`.
        at: where the fixup was; it counts as dirty.
        end: there are no places from here on.
    """
    best, found = 0, 1
    low, high = at, at + 1
    for order in range(1, N_ORDERS):
        first = (at >> order) << order
        last = first + (1 << order)
        if last > end:
            break
        found += dirty_places(m, page, first, low) + dirty_places(m, page, high, last)
        low, high = first, last
        if found > 1 and found * 8 >= eighths << order:
            best = order
    pay(m, _LOOK, _GROUP, (high - low + _PLACES_PER_LOOK - 1) // _PLACES_PER_LOOK)
    return best
