"""The fault handler's loop, compiled: reads faults, opens groups, cleans.

It never wants the interpreter lock, which the very thread that waits for it may hold.

One thread owns the dirty bitmap and all protection: a clean is an order to it. So no frame can
become clean in the bitmap and writable in memory between two steps of two threads.

A group is marked before it is opened, and taken out of the bitmap before it is protected: who
copies a frame after the clean that reported it has every write up to then, and those after it are
seen again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from guests.compiled import kernel
from guests.linux.errnos import EAGAIN, EINVAL, ENOENT
from guests.linux.handler_state import (
    CLEAN,
    MESSAGE_WORDS,
    MESSAGES,
    PROTECT_ALL,
    STOP,
    HandlerView,
)
from guests.linux.histogram import bin_of
from guests.linux.learning import judge_last_round, note_opened
from guests.linux.raw_calls import (
    SYS_CLOSE,
    SYS_IOCTL,
    SYS_MADVISE,
    SYS_POLL,
    SYS_READ,
    SYS_SCHED_YIELD,
    SYS_WRITE,
    now_ns,
    raw_call,
)
from guests.linux.userfaultfd import UFFDIO_UNREGISTER, UFFDIO_WAKE, UFFDIO_WRITEPROTECT
from paging_core.kernels.arrays import dirty
from paging_core.kernels.bitmap import BY_FIXUP, WITH_GROUP, set_dirty
from paging_core.kernels.density import PHYSICAL, dirty_places
from paging_core.kernels.groups import group_size
from paging_core.kernels.state import Core
from paging_core.units import FRAME_BYTES, FRAME_SHIFT

Words = npt.NDArray[np.int64]
Ranges = npt.NDArray[np.int64]
"""int64 (k, 3): address, first frame, frames; ascending."""

# Places in the scratch words, and how far behind their start they are in bytes.
_POLL, _EVENT, _REQUEST, _TIME, _MESSAGES = 0, 2, 3, 6, 8
_WORD = 8
_POLLIN, _POLLERR, _POLLHUP, _POLLNVAL = 1, 8, 16, 32
_BROKEN = _POLLERR | _POLLHUP | _POLLNVAL
_EVENT_PAGEFAULT = 0x12
_MODE_WP = 1
_POPULATE_WRITE = 23
_MOST_RETRIES = 1 << 20
_ADDRESS_MASK = ~(FRAME_BYTES - 1)


@kernel
def _fail(h: HandlerView, call: int, error: int) -> None:
    """Note what ends the loop; the first failure counts."""
    if h.failed_call < 0:
        h.failed_call = call
        h.errno = error


@kernel
def _request(h: HandlerView, scratch: Words, request: int, address: int, frames: int) -> int:
    """One request of the userfaultfd about a run of pages; 0, or -errno."""
    scratch[_REQUEST] = address
    scratch[_REQUEST + 1] = frames * FRAME_BYTES
    where = h.scratch_at + _REQUEST * _WORD
    for _ in range(_MOST_RETRIES):
        result = raw_call(SYS_IOCTL, h.userfaultfd, request, where)
        if result != -EAGAIN:  # the process changes its mappings at this moment
            return min(result, 0)
        raw_call(SYS_SCHED_YIELD, 0, 0, 0)
    return -EAGAIN


@kernel
def _protect(h: HandlerView, scratch: Words, address: int, frames: int, mode: int) -> int:
    scratch[_REQUEST + 2] = mode
    return _request(h, scratch, UFFDIO_WRITEPROTECT, address, frames)


@kernel
def _range_of(ranges: Ranges, address: int) -> int:
    """The range that holds an address, or -1."""
    for i in range(ranges.shape[0]):
        if 0 <= address - ranges[i, 0] < ranges[i, 2] << FRAME_SHIFT:
            return i
    return -1


@kernel
def _group_of(m: Core, gfn: int, first: int, end: int) -> tuple[int, int]:
    """The aligned run that a fixup opens, within a range of frames."""
    n = group_size(m, PHYSICAL, gfn, end, gfn)
    if n == 1:
        return gfn, gfn + 1
    start, stop = gfn & ~(n - 1), (gfn & ~(n - 1)) + n
    start, stop = max(start, first), min(stop, end)
    if m.group.trigger > 1 and dirty_places(m, PHYSICAL, start, stop) < m.group.trigger:
        return gfn, gfn + 1
    return start, stop


@kernel
def _mark(m: Core, h: HandlerView, gfn: int, start: int, stop: int) -> None:
    """Mark the neighbours of a fixup."""
    for neighbour in range(start, stop):
        if neighbour != gfn and set_dirty(m, neighbour, WITH_GROUP):
            h.opened += 1


@kernel
def _open(h: HandlerView, scratch: Words, address: int, frames: int) -> int:
    """Let writes through, which wakes whoever waits; 0, or -errno."""
    result = _protect(h, scratch, address, frames, 0)
    if result == 0 and h.populate:
        raw_call(SYS_MADVISE, address, frames * FRAME_BYTES, _POPULATE_WRITE)
    return result


@kernel
def _wake(h: HandlerView, scratch: Words, page: int) -> None:
    """Let the access to a page that cannot be opened go on: it is unmapped, or nobody's of ours."""
    h.unmapped += 1
    result = _request(h, scratch, UFFDIO_WAKE, page, 1)
    if result != 0:
        _fail(h, SYS_IOCTL, -result)


@kernel
def _handle(m: Core, h: HandlerView, ranges: Ranges, scratch: Words, address: int) -> None:
    """One write to a protected page."""
    page = address & _ADDRESS_MASK
    at = _range_of(ranges, page)
    if at < 0:
        _wake(h, scratch, page)
        return
    base, first, frames = ranges[at, 0], ranges[at, 1], ranges[at, 2]
    gfn = first + ((page - base) >> FRAME_SHIFT)
    if set_dirty(m, gfn, BY_FIXUP):
        h.fixups += 1
    start, stop = _group_of(m, gfn, first, first + frames)
    _mark(m, h, gfn, start, stop)
    result = _open(h, scratch, base + ((start - first) << FRAME_SHIFT), stop - start)
    if result in (-ENOENT, -EINVAL):  # a part of the group was unmapped
        result = _open(h, scratch, page, 1)
    if result in (-ENOENT, -EINVAL):
        _wake(h, scratch, page)
    elif result != 0:
        _fail(h, SYS_IOCTL, -result)


@kernel
def _count_latency(h: HandlerView, ns: int) -> None:
    h.handled_ns += ns
    h.latency[bin_of(ns)] += 1


@kernel
def _handle_all(m: Core, h: HandlerView, ranges: Ranges, scratch: Words) -> None:
    """Every fault that waits now."""
    room = MESSAGES * MESSAGE_WORDS * _WORD
    size = raw_call(SYS_READ, h.userfaultfd, h.scratch_at + _MESSAGES * _WORD, room)
    if size <= 0:
        if size != -EAGAIN:  # the one who waited is gone
            _fail(h, SYS_READ, -size)
        return
    read_ns = now_ns(scratch[_TIME:], h.scratch_at + _TIME * _WORD)
    for i in range(size // (MESSAGE_WORDS * _WORD)):
        at = _MESSAGES + i * MESSAGE_WORDS
        if scratch[at] & 255 == _EVENT_PAGEFAULT:
            h.messages += 1
            _handle(m, h, ranges, scratch, scratch[at + 2])
            _count_latency(h, now_ns(scratch[_TIME:], h.scratch_at + _TIME * _WORD) - read_ns)


@kernel
def _protect_runs(h: HandlerView, ranges: Ranges, scratch: Words, taken: Words) -> None:
    """Protect every frame of a bitmap again, run by run."""
    for i in range(ranges.shape[0]):
        base, gfn, end = ranges[i, 0], ranges[i, 1], ranges[i, 1] + ranges[i, 2]
        first = gfn
        while gfn < end:
            if gfn & 63 == 0 and taken[gfn >> 6] == 0:
                gfn += 64
                continue
            start = gfn
            while gfn < end and (taken[gfn >> 6] >> (gfn & 63)) & 1:
                gfn += 1
            if gfn == start:
                gfn += 1
                continue
            address = base + ((start - first) << FRAME_SHIFT)
            result = _protect(h, scratch, address, gfn - start, _MODE_WP)
            if result not in (0, -ENOENT, -EINVAL):
                _fail(h, SYS_IOCTL, -result)


@kernel
def _clean(m: Core, h: HandlerView, ranges: Ranges, scratch: Words, taken: Words) -> None:
    """Take the bitmap out and protect what was in it."""
    begun_ns = now_ns(scratch[_TIME:], h.scratch_at + _TIME * _WORD)
    if m.group.adaptive:
        judge_last_round(m, taken)
    for i in range(taken.shape[0]):
        taken[i] = dirty(m)[i]
        dirty(m)[i] = 0
    note_opened(m)
    m.log.dirty_count = 0
    h.fixups_taken, h.opened_taken = h.fixups, h.opened
    _protect_runs(h, ranges, scratch, taken)
    h.clean_ns += now_ns(scratch[_TIME:], h.scratch_at + _TIME * _WORD) - begun_ns


@kernel
def _protect_all(h: HandlerView, ranges: Ranges, scratch: Words) -> None:
    for i in range(ranges.shape[0]):
        result = _protect(h, scratch, ranges[i, 0], ranges[i, 2], _MODE_WP)
        if result not in (0, -ENOENT, -EINVAL):
            _fail(h, SYS_IOCTL, -result)


@kernel
def _answer(h: HandlerView, scratch: Words) -> None:
    scratch[_EVENT] = 1
    raw_call(SYS_WRITE, h.answers, h.scratch_at + _EVENT * _WORD, _WORD)


@kernel
def _carry_out(m: Core, h: HandlerView, ranges: Ranges, scratch: Words, taken: Words) -> bool:
    """One order; returns whether to go on."""
    raw_call(SYS_READ, h.orders, h.scratch_at + _EVENT * _WORD, _WORD)
    if h.order == STOP:
        return False
    if h.order == CLEAN:
        _clean(m, h, ranges, scratch, taken)
    elif h.order == PROTECT_ALL:
        _protect_all(h, ranges, scratch)
    if h.failed_call < 0:
        _answer(h, scratch)
    return True


@kernel
def _wait(h: HandlerView, scratch: Words) -> int:
    """Wait for a fault or an order: what has come of either, the fault's in the upper half."""
    scratch[_POLL] = h.userfaultfd | _POLLIN << 32
    scratch[_POLL + 1] = h.orders | _POLLIN << 32
    result = raw_call(SYS_POLL, h.scratch_at + _POLL * _WORD, 2, -1)
    if result < 0:
        _fail(h, SYS_POLL, -result)
        return 0
    faults, orders = int(scratch[_POLL] >> 48), int(scratch[_POLL + 1] >> 48)
    if (faults | orders) & _BROKEN:
        _fail(h, SYS_POLL, 0)
        return 0
    return (faults << 16) | orders


@kernel
def _let_go(h: HandlerView, ranges: Ranges, scratch: Words) -> None:
    """No page stays protected and nobody waits, whatever comes: only then is it said."""
    for i in range(ranges.shape[0]):
        _request(h, scratch, UFFDIO_UNREGISTER, ranges[i, 0], ranges[i, 2])
    raw_call(SYS_CLOSE, h.userfaultfd, 0, 0)
    _answer(h, scratch)


@kernel
def handle_faults(m: Core, h: HandlerView, ranges: Ranges, scratch: Words, taken: Words) -> None:
    """Handle faults and orders until told to stop, or something fails: `h.failed_call` says what.

    However it ends, it takes all protection away, wakes whoever waits and closes the userfaultfd.

    Args:
        m: the core of a `GroupState`.
        h: its record.
        ranges: what is tracked.
        scratch: words that `h.scratch_at` is the address of.
        taken: what the last clean found, words of a bitmap.
    """
    go_on = True
    while go_on and h.failed_call < 0:
        come = _wait(h, scratch)
        if come >> 16:
            _handle_all(m, h, ranges, scratch)
        if come & _POLLIN and h.failed_call < 0:
            go_on = _carry_out(m, h, ranges, scratch, taken)
    _let_go(h, ranges, scratch)
