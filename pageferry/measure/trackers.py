"""Ways of tracking a program from outside for a round; each leaves it as it was when it is closed.

Each round attaches anew (`pageferry.record.attach`): closing the descriptor, as the kernel does for
one who is killed, takes every protection away and wakes whoever waits.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from guests.linux.handler import FaultHandler
from guests.linux.pagemap import PFNZERO, PRESENT, SWAPPED, Match, Pagemap
from guests.linux.userfaultfd import SYNCHRONOUS, enable, register
from pageferry.measure.ranges import Ranges, ranges_of
from pageferry.record.attach import attach
from pageferry.record.content import Contents
from pageferry.record.errors import CannotRecord
from pageferry.record.guest_ram import GuestRam
from pageferry.record.tracker import Gone, Tracker, Written
from paging_core.config import GroupPolicy
from paging_core.errors import TrackingLost
from paging_core.kernels.state import OPENED
from paging_core.traces.written.schema import CHANGED, SAME
from paging_core.units import FRAME_BYTES

_POPULATED = Match(0, has_not=PFNZERO, any_of=PRESENT | SWAPPED)
_N_BINS = 64


class Look(NamedTuple):
    """What a tracker found since the last look.

    Attributes:
        dirty: pages written or opened.
        faults: first writes, each of which a handler answered; asynchronously, the kernel.
        opened: neighbours that were opened with them.
        false: of these, those that hold what they held; None: not looked at.
        changed: of these, those that hold something else.
    """

    dirty: int
    faults: int
    opened: int
    false: int | None = None
    changed: int | None = None


class Tracking(Protocol):
    """Tracks a program until it is closed.

    Attributes:
        stopped_ns: for how long the program stood still to be attached to.
        left_out: what of its memory is not tracked.
    """

    stopped_ns: int
    left_out: list[str]

    def look(self) -> Look:
        """What was written since the last look; protected again.

        Raises:
            CannotRecord: it cannot be known: the program has ended, or tracking has.
        """

    def latency(self) -> npt.NDArray[np.int64]:
        """Faults by the time that the handler took, bins of powers of two, ns."""

    def close(self) -> None:
        """Leave the program as it was."""


class NotTracking:
    """The program as it runs by itself."""

    def __init__(self) -> None:
        self.stopped_ns = 0
        self.left_out: list[str] = []

    def look(self) -> Look:
        """Nothing."""
        return Look(0, 0, 0)

    def latency(self) -> npt.NDArray[np.int64]:
        """No fault."""
        return np.zeros(_N_BINS, np.int64)

    def close(self) -> None:
        """Nothing was changed."""


class AsyncTracking(NotTracking):
    """Asynchronous protection: the kernel lets each first write go on by itself."""

    def __init__(self, pid: int, ram: GuestRam | None) -> None:
        """Attach and protect.

        Raises:
            CannotRecord: it cannot be.
        """
        super().__init__()
        attached = attach(pid)
        attached.close()
        self.stopped_ns = attached.stopped_ns
        self._tracker = Tracker(pid, attached, range(ram.start, ram.end) if ram else None)
        try:
            self.look()
        except BaseException:
            self.close()
            raise
        self.left_out = sorted(set().union(*self._tracker.left_out.values()))

    def look(self) -> Look:
        """Pages written, each by one fault that the kernel answered."""
        try:
            found = len(self._tracker.take().pages)
        except Gone as error:
            raise CannotRecord("the process has ended, or executes another program") from error
        return Look(found, found, 0)

    def close(self) -> None:
        """Close the descriptor."""
        self._tracker.close()


class SyncTracking:
    """Synchronous protection: compiled code answers each fault, and opens the aligned group."""

    def __init__(self, pid: int, ram: GuestRam, n: int, *, content: bool) -> None:
        """Attach and protect.

        Args:
            pid: the process.
            ram: of a virtual machine.
            n: pages of a group.
            content: read what was opened: did it change?

        Raises:
            CannotRecord: it cannot be.
        """
        attached = attach(pid, all_faults=True)
        attached.close()
        self.stopped_ns = attached.stopped_ns
        self._content: _Content | None = None
        self._faults = self._opened = 0
        try:
            self._ranges = _registered(attached.userfaultfd, ranges_of(pid, ram))
            self._content = _Content(pid, self._ranges) if content else None
            self._handler = FaultHandler(
                attached.userfaultfd, self._ranges.tracked, GroupPolicy(frames=n)
            )
        except OSError as error:
            with suppress(OSError):
                os.close(attached.userfaultfd)
            raise CannotRecord(
                f"the memory of process {pid} changed while it was attached to "
                f"({error.strerror}); try again"
            ) from error
        except BaseException:
            os.close(attached.userfaultfd)
            raise
        self.left_out = self._ranges.left_out
        try:
            self._handler.start()
            if self._content:
                self._content.begin()
        except BaseException:
            self.close()
            raise

    def look(self) -> Look:
        """Clean, and what the handler counted since the last one."""
        opened = self._handler.state.frames["opened"] == OPENED
        try:
            words = self._handler.clean()
        except TrackingLost as error:
            raise CannotRecord(str(error)) from error
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: len(opened)]
        frames = np.flatnonzero(bits)
        counts = self._handler.counts()
        faults, self._faults = counts.fixups_taken - self._faults, counts.fixups_taken
        neighbours, self._opened = counts.opened_taken - self._opened, counts.opened_taken
        if self._content is None:
            return Look(len(frames), faults, neighbours)
        said = self._content.compare(frames, self._dirty_again)[opened[frames]]
        false, changed = (int(np.count_nonzero(said == one)) for one in (SAME, CHANGED))
        return Look(len(frames), faults, neighbours, false, changed)

    def latency(self) -> npt.NDArray[np.int64]:
        """Of all faults since it began."""
        return self._handler.counts().latency

    def close(self) -> None:
        """Stop the handler, which lets go whoever waits and closes the descriptor."""
        self._handler.close()
        if self._content:
            self._content.close()

    def _dirty_again(self) -> npt.NDArray[np.int64]:
        words = self._handler.peek()
        return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))


class _Content:
    """Whether opened frames hold what they held."""

    def __init__(self, pid: int, ranges: Ranges) -> None:
        self._ranges = ranges
        self._contents = Contents(pid)
        self._pagemap = Pagemap(pid)

    def begin(self) -> None:
        """Read all that is there."""
        for one in self._ranges.tracked:
            end = one.address + one.frames * FRAME_BYTES
            with suppress(OSError):  # unmapped meanwhile
                pages = self._pagemap.peek(one.address, end, _POPULATED).pages
                self._contents.compare(_read(pages), _nothing)

    def compare(self, frames: npt.NDArray[np.int64], dirty_again: _Frames) -> npt.NDArray[np.int8]:
        """CHANGED, SAME or NOT_MEASURED for each frame; asked afterwards which are dirty again."""
        pages = self._ranges.pages(frames)
        order = np.argsort(pages)
        said = self._contents.compare(
            _read(pages[order]), lambda: np.sort(self._ranges.pages(dirty_again()))
        )
        answer = np.empty(len(frames), np.int8)
        answer[order] = said
        return answer

    def close(self) -> None:
        """Close the process's memory."""
        self._contents.close()
        self._pagemap.close()


def _read(pages: npt.NDArray[np.uint64]) -> Written:
    """Pages to read, of which nobody knows what they held."""
    return Written(pages, 0, np.zeros(len(pages), np.bool_))


def _nothing() -> npt.NDArray[np.uint64]:
    return np.zeros(0, np.uint64)


class _Frames(Protocol):
    def __call__(self) -> npt.NDArray[np.int64]: ...


def _registered(userfaultfd: int, ranges: Ranges) -> Ranges:
    """What can be registered of it: a mapping may have gone, or be under somebody else's."""
    enable(userfaultfd, SYNCHRONOUS)
    tracked, left_out = [], list(ranges.left_out)
    for one in ranges.tracked:
        try:
            register(userfaultfd, one.address, one.address + one.frames * FRAME_BYTES)
            tracked.append(one)
        except OSError as error:
            left_out.append(f"memory at {one.address:x} ({error.strerror})")
    if not tracked:
        raise CannotRecord(f"nothing of it can be protected: {left_out[-1]}")
    return Ranges(tracked, left_out)
