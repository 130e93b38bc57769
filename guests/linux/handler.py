"""A thread that handles the faults of tracked memory: opens page groups, and cleans.

    handler = FaultHandler(userfaultfd, whole(address, n_frames), policy)
    handler.start()                 # all of it is protected from here on
    words = handler.clean()         # what was written or opened since; protected again
    handler.stop()                  # nothing is protected any more

Faults are answered by compiled code that never wants the interpreter lock (fault_loop.py).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from guests.linux.fault_loop import handle_faults
from guests.linux.handler_state import (
    CLEAN,
    HANDLER_DTYPE,
    N_SCRATCH,
    PROTECT_ALL,
    STOP,
    GroupState,
    TrackedRange,
    end_of,
    ranges_array,
)
from guests.linux.learning import note_unchanged
from guests.linux.raw_calls import SYS_IOCTL, SYS_POLL, SYS_READ
from guests.linux.userfaultfd import register
from paging_core.config import GroupPolicy
from paging_core.costs import CostTable
from paging_core.errors import TrackingLost
from paging_core.guest import DirtyWords
from paging_core.kernels.adaptive import reset_groups

_CALLS = {SYS_POLL: "poll", SYS_READ: "read", SYS_IOCTL: "ioctl"}


@dataclass(frozen=True)
class HandlerCounts:
    """What a handler did since it started.

    Attributes:
        messages: faults that came to it.
        fixups: of those, the first write to a frame that was clean.
        opened: neighbours that were opened and marked with them.
        unmapped: faults on pages that were unmapped when they should be opened.
        fixups_taken, opened_taken: `fixups` and `opened` as the last clean found them.
        clean_ns: time in cleans.
        handled_ns: time from reading a fault to having let it go on, of all faults.
        latency: faults by that time, int64 (64,): bin k from 2**(k-1) to below 2**k ns.
    """

    messages: int
    fixups: int
    opened: int
    unmapped: int
    fixups_taken: int
    opened_taken: int
    clean_ns: int
    handled_ns: int
    latency: npt.NDArray[np.int64]


class FaultHandler:
    """Tracks writes to ranges of pages. One caller at a time.

    Attributes:
        state: the bitmap and what decides on groups.
        record: one record of HANDLER_DTYPE, as an array: descriptors and counters.
    """

    def __init__(
        self,
        userfaultfd: int,
        ranges: list[TrackedRange],
        policy: GroupPolicy,
        *,
        populate: bool = False,
        costs: CostTable | None = None,
    ) -> None:
        """Register the ranges; nothing is protected yet.

        Args:
            userfaultfd: synchronous and enabled; closed when tracking ends, however it does.
            ranges: what to track; each lies in mappings of one kind, and none overlaps another.
            policy: fixed group size or adaptive, and trigger. There is no D bit to filter by.
            populate: what is opened is also made writable in this process's page table, which
                spares a fault of the kernel's own for each page of shared memory.
            costs: what adaptive groups decide by; None for the defaults.

        Raises:
            OSError: a range cannot be registered; the descriptor is closed.
        """
        self._open = [userfaultfd]
        self._ranges = ranges_array(ranges)
        n_frames = max((one.first + one.frames for one in ranges), default=1)
        self.state = GroupState(n_frames, policy, costs or CostTable())
        self._taken = np.zeros(len(self.state.dirty), np.int64)
        self._scratch = np.zeros(N_SCRATCH, np.int64)
        self.record: Any = np.zeros(1, HANDLER_DTYPE)
        self._thread: threading.Thread | None = None
        try:
            for one in ranges:
                register(userfaultfd, one.address, end_of(one))
            self._orders, self._answers = self._eventfd(), self._eventfd()
        except OSError:
            self.close()
            raise
        record = self.record
        record["userfaultfd"], record["orders"] = userfaultfd, self._orders
        record["answers"] = self._answers
        record["scratch_at"] = self._scratch.ctypes.data
        record["populate"] = populate
        record["failed_call"] = -1
        reset_groups(self.state.core[0])

    def start(self) -> None:
        """Protect everything, and answer faults from here on.

        Raises:
            TrackingLost: the memory cannot be protected.
        """
        self._thread = threading.Thread(target=self._serve, name="faults", daemon=True)
        self._open.pop(0)  # from here on the loop's
        self._thread.start()
        self._ask(PROTECT_ALL)

    def clean(self) -> DirtyWords:
        """Get and clear the bitmap, and protect what was in it again.

        Raises:
            TrackingLost: the handler has ended; nothing is protected.
        """
        self._ask(CLEAN)
        return self._taken.view(np.uint64).copy()

    def peek(self) -> DirtyWords:
        """A copy of the bitmap.

        Raises:
            TrackingLost: as `clean`.
        """
        self.check()
        return self.state.dirty.view(np.uint64).copy()

    def note_sent(self, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
        """Tell adaptive groups what became of frames (`paging_core.guest.SendObserver`)."""
        note_unchanged(self.state.core[0], self._taken, gfns, changed)

    def counts(self) -> HandlerCounts:
        """What it did so far."""
        record = self.record[0]
        names = [one.name for one in fields(HandlerCounts) if one.name != "latency"]
        numbers = {name: int(record[name]) for name in names}
        return HandlerCounts(**numbers, latency=record["latency"].copy())

    def check(self) -> None:
        """Find out whether it still tracks.

        Raises:
            TrackingLost: it does not; nothing is protected, and nobody waits.
        """
        call, error = int(self.record["failed_call"][0]), int(self.record["errno"][0])
        if call >= 0:
            why = os.strerror(error) if error else "its descriptor was closed"
            raise TrackingLost(
                f"the handler of write faults has ended ({_CALLS.get(call, call)}: {why}), so what "
                "the guest writes is not known any more; start tracking again"
            )
        if self._thread is None:
            raise TrackingLost("this memory is not tracked; start tracking first")

    def stop(self) -> None:
        """Take all protection away. What it counted can still be asked for."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self.record["order"] = STOP
        os.eventfd_write(self._orders, 1)
        thread.join()

    def close(self) -> None:
        """Stop, and give its descriptors back."""
        self.stop()
        while self._open:
            os.close(self._open.pop())

    def _eventfd(self) -> int:
        made = os.eventfd(0, os.EFD_CLOEXEC)
        self._open.append(made)
        return made

    def _serve(self) -> None:
        handle_faults(self.state.core[0], self.record[0], self._ranges, self._scratch, self._taken)

    def _ask(self, order: int) -> None:
        self.check()
        self.record["order"] = order
        os.eventfd_write(self._orders, 1)
        os.eventfd_read(self._answers)
        self.check()
