"""The log-dirty bitmap: mark, test, and frames that are dirty only as neighbours."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.flow import FlowKind
from paging_core.kernels.account import pay
from paging_core.kernels.arrays import dirty, frame_at, ring
from paging_core.kernels.flow import FIRST_WRITE, note
from paging_core.kernels.state import OPENED, Core

BY_FIXUP = int(FlowKind.FIXUP)
"""How a frame became dirty: a fault made it writable."""
BY_LOG = int(FlowKind.LOGGED)
"""Hardware logged the write, or the hypervisor made it."""
WITH_GROUP = int(FlowKind.OPENED)
"""The fixup of another frame opened it."""
_MARK = int(Event.MARK_DIRTY)
_FIXUP = int(Cause.FIXUP)


@kernel
def is_dirty(m: Core, gfn: int) -> bool:
    """Whether the frame is marked."""
    return (dirty(m)[gfn >> 6] >> (gfn & 63)) & 1 == 1


@kernel
def _note_dirty(m: Core, gfn: int, how: int) -> None:
    if how == BY_FIXUP:
        m.flow.leader = gfn
    note(m, how, gfn, m.flow.leader if how == WITH_GROUP else gfn, 0)


@kernel
def _push(m: Core, gfn: int) -> None:
    """kvm_dirty_ring_push: every mark is an entry, whatever is in the ring already."""
    if m.ring.used == m.ring.entries:
        m.ring.overrun = 1
        return
    ring(m)[m.ring.used] = gfn
    m.ring.used += 1
    m.ring.pushed += 1


@kernel
def set_dirty(m: Core, gfn: int, how: int) -> bool:
    """Mark without a price; True if the bit flipped.

    Args:
        how: BY_FIXUP, BY_LOG, or WITH_GROUP if nobody wrote the frame and it is only opened
            with its group. A frame marked for its own sake loses that stain for good.
    """
    if m.ring.limit > 0:
        _push(m, gfn)
    word = dirty(m)[gfn >> 6]
    bit = 1 << (gfn & 63)
    frame = frame_at(m, gfn)
    if word & bit:
        if how != WITH_GROUP:
            if m.flow.rows > 0 and frame.opened == OPENED:
                note(m, FIRST_WRITE, gfn, gfn, 0)
            frame.opened = 0
        return False
    dirty(m)[gfn >> 6] = word | bit
    frame.opened = OPENED if how == WITH_GROUP else 0
    m.log.dirty_count += 1
    if m.flow.rows > 0:
        _note_dirty(m, gfn, how)
    return True


@kernel
def mark_dirty(m: Core, gfn: int, how: int) -> bool:
    """Log a write that is about to happen or did; True if the bit flipped."""
    if m.log.enabled == 0:
        return False
    pay(m, _MARK, _FIXUP, 1)
    return set_dirty(m, gfn, how)


@kernel
def mark_everything(m: Core) -> None:
    """Every frame counts as written (KVM_DIRTY_LOG_INITIALLY_SET: kvm_prepare_memory_region)."""
    for gfn in range(m.n_frames):
        dirty(m)[gfn >> 6] |= 1 << (gfn & 63)
    m.log.dirty_count = m.n_frames


@kernel
def count_false(m: Core) -> int:
    """Read and reset the counters of a clean that clears nothing yet; frames falsely dirty."""
    false = 0
    for gfn in range(m.n_frames):
        if is_dirty(m, gfn) and frame_at(m, gfn).written == 0:
            false += 1
    m.log.dirty_count = 0
    m.log.fault_count = 0
    return false


@kernel
def set_clean(m: Core, gfn: int) -> None:
    """Take one frame out of the bitmap and forget who wrote it."""
    frame_at(m, gfn).written = 0
    frame_at(m, gfn).opened = 0
    dirty(m)[gfn >> 6] &= ~(1 << (gfn & 63))


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
    m.log.dirty_count = 0
    m.log.fault_count = 0
    return false
