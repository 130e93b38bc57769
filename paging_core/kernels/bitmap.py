"""The log-dirty bitmap: mark, test, and who is dirty only as somebody's neighbour."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.arrays import dirty, frame_at
from paging_core.kernels.state import Core

_MARK = int(Event.MARK_DIRTY)
_FIXUP = int(Cause.FIXUP)


@kernel
def is_dirty(m: Core, gfn: int) -> bool:
    """Whether the frame is marked."""
    return (dirty(m)[gfn >> 6] >> (gfn & 63)) & 1 == 1


@kernel
def set_dirty(m: Core, gfn: int, opened: int) -> bool:
    """Mark without a price; True if the bit flipped.

    Args:
        opened: 1 if nobody wrote the frame and it is only opened with its group. A frame
            marked for its own sake loses that stain for good.
    """
    word = dirty(m)[gfn >> 6]
    bit = 1 << (gfn & 63)
    frame = frame_at(m, gfn)
    if word & bit:
        if opened == 0:
            frame.opened = 0
        return False
    dirty(m)[gfn >> 6] = word | bit
    frame.opened = opened
    m.dirty_count += 1
    return True


@kernel
def mark_dirty(m: Core, gfn: int) -> bool:
    """Log a write that is about to happen or did; True if the bit flipped."""
    if m.log_dirty == 0:
        return False
    pay(m, _MARK, _FIXUP, 1)
    return set_dirty(m, gfn, 0)


@kernel
def clear_and_count_false(m: Core, words: int) -> int:
    """Forget who wrote what; returns how many marked frames nobody had written.

    Args:
        words: words of the bitmap; all of them are zeroed.
    """
    false = 0
    for gfn in range(m.n_frames):
        frame = frame_at(m, gfn)
        if (dirty(m)[gfn >> 6] >> (gfn & 63)) & 1 and frame.written == 0:
            false += 1
        frame.written = 0
        frame.opened = 0
    for i in range(words):
        dirty(m)[i] = 0
    m.dirty_count = 0
    m.fault_count = 0
    return false
