"""The log-dirty bitmap: mark, test, and who is dirty only as somebody's neighbour."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.state import Machine

_MARK = int(Event.MARK_DIRTY)
_FIXUP = int(Cause.FIXUP)


@kernel
def is_dirty(m: Machine, gfn: int) -> bool:
    """Whether the frame is marked."""
    return (m.dirty[gfn >> 6] >> (gfn & 63)) & 1 == 1


@kernel
def set_dirty(m: Machine, gfn: int, opened: int) -> bool:
    """Mark without a price; True if the bit flipped.

    Args:
        opened: 1 if nobody wrote the frame and it is only opened with its group. A frame
            marked for its own sake loses that stain for good.
    """
    word = m.dirty[gfn >> 6]
    bit = 1 << (gfn & 63)
    frame = m.frames[gfn]
    if word & bit:
        if opened == 0:
            frame.opened = 0
        return False
    m.dirty[gfn >> 6] = word | bit
    frame.opened = opened
    m.host[0].dirty_count += 1
    return True


@kernel
def mark_dirty(m: Machine, gfn: int) -> bool:
    """Log a write that is about to happen or did; True if the bit flipped."""
    if m.host[0].log_dirty == 0:
        return False
    pay(m, _MARK, _FIXUP, 1)
    return set_dirty(m, gfn, 0)


@kernel
def clear_and_count_false(m: Machine, words: int) -> int:
    """Forget who wrote what; returns how many marked frames nobody had written.

    Args:
        words: words of the bitmap; all of them are zeroed.
    """
    false = 0
    for gfn in range(m.frames.shape[0]):
        frame = m.frames[gfn]
        if (m.dirty[gfn >> 6] >> (gfn & 63)) & 1 and frame.written == 0:
            false += 1
        frame.written = 0
        frame.opened = 0
    for i in range(words):
        m.dirty[i] = 0
    m.host[0].dirty_count = 0
    m.host[0].fault_count = 0
    return false
