"""The two ways in which a process's writes are tracked."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from guests.linux import pagemap, userfaultfd
from guests.linux.handler import FaultHandler
from guests.linux.handler_state import HANDLER_DTYPE, whole
from guests.linux.pagemap import WRITTEN, Match, Pagemap
from paging_core.config import GroupPolicy, GuestConfig
from paging_core.config import Tracking as Ways
from paging_core.costs import CostTable
from paging_core.guest import DirtyWords
from paging_core.log_dirty import n_words
from paging_core.memory import GuestMemory
from paging_core.units import FRAME_BYTES, FRAME_SHIFT


def check_machine(config: GuestConfig) -> None:
    """Find out whether a guest's writes can be tracked here, before it is made.

    Raises:
        CannotTrack: they cannot; says what to do.
    """
    if config.tracking is Ways.UFFD_ASYNC:
        userfaultfd.check_kernel(userfaultfd.ASYNCHRONOUS)
        pagemap.check_kernel()
    else:
        userfaultfd.check_kernel(userfaultfd.SYNCHRONOUS)


class Tracking(Protocol):
    """Writes to a guest's memory, tracked from when it is made until it is closed."""

    faults: Any
    """A record of HANDLER_DTYPE, as an array of one: what the fault handler counts."""

    @property
    def kernel_fixups(self) -> int:
        """Faults that the kernel resolved by itself, as far as cleans have found them."""

    def clean(self) -> DirtyWords:
        """Get and clear the bitmap, and protect what was in it again."""

    def peek(self) -> DirtyWords:
        """A copy of the bitmap."""

    def check(self) -> None:
        """Whether it still tracks.

        Raises:
            TrackingLost: it does not.
        """

    def close(self) -> None:
        """Nothing is protected any more."""


class SynchronousTracking:
    """Each first write waits for a handler, which opens its group (`uffd-sync`)."""

    kernel_fixups = 0

    def __init__(self, memory: GuestMemory, policy: GroupPolicy, costs: CostTable) -> None:
        """Protect all of it.

        Args:
            memory: of the guest, mapped in this process.
            policy: of the groups.
            costs: what adaptive groups decide by.

        Raises:
            CannotTrack: not on this machine, or not by this user.
        """
        descriptor = userfaultfd.make()
        try:
            userfaultfd.enable(descriptor, userfaultfd.SYNCHRONOUS)
        except BaseException:
            os.close(descriptor)
            raise
        ranges = whole(memory.frames.ctypes.data, memory.n_frames)
        self.handler = FaultHandler(descriptor, ranges, policy, populate=True, costs=costs)
        self.faults = self.handler.record
        try:
            self.handler.start()
        except BaseException:
            self.handler.close()
            raise

    def clean(self) -> DirtyWords:
        """See `Tracking`."""
        return self.handler.clean()

    def peek(self) -> DirtyWords:
        """See `Tracking`."""
        return self.handler.peek()

    def check(self) -> None:
        """See `Tracking`."""
        self.handler.check()

    def note_sent(self, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
        """What became of frames; adaptive groups learn from it."""
        self.handler.note_sent(gfns, changed)

    def close(self) -> None:
        """See `Tracking`."""
        self.handler.close()


class AsynchronousTracking:
    """The kernel lets each first write through and remembers it (`uffd-async`); no groups."""

    def __init__(self, memory: GuestMemory) -> None:
        """Protect all of it.

        Raises:
            CannotTrack: not on this machine, or not by this user.
        """
        self.faults: Any = np.zeros(1, HANDLER_DTYPE)
        self.kernel_fixups = 0
        self._start = memory.frames.ctypes.data
        self._end = self._start + memory.n_frames * FRAME_BYTES
        self._n_words = n_words(memory.n_frames)
        self._descriptor = userfaultfd.make()
        try:
            userfaultfd.enable(self._descriptor)
            userfaultfd.register(self._descriptor, self._start, self._end)
            userfaultfd.protect(self._descriptor, self._start, self._end)
            self._pagemap = Pagemap(os.getpid())
        except BaseException:
            os.close(self._descriptor)
            raise

    def clean(self) -> DirtyWords:
        """See `Tracking`: one call of the kernel's finds and protects."""
        pages = self._pagemap.take(self._start, self._end, Match(WRITTEN)).pages
        self.kernel_fixups += len(pages)
        return self._words(pages)

    def peek(self) -> DirtyWords:
        """See `Tracking`."""
        return self._words(self._pagemap.peek(self._start, self._end, Match(WRITTEN)).pages)

    def check(self) -> None:
        """See `Tracking`: there is nobody who could fail."""

    def close(self) -> None:
        """See `Tracking`."""
        os.close(self._descriptor)
        self._pagemap.close()

    def _words(self, pages: npt.NDArray[np.uint64]) -> DirtyWords:
        bits = np.zeros(self._n_words * 64, np.bool_)
        bits[pages - np.uint64(self._start >> FRAME_SHIFT)] = True
        return np.packbits(bits, bitorder="little").view(np.uint64)
