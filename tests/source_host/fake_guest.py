"""A second kind of guest, made of plain Python: it shows that the interface is small.

It writes one word at a time to frames of a script, one access per `ACCESS_NS`, and tracks
what it wrote exactly. A D-bit filter can be imitated by naming frames that a clean drops
though a peek showed them. A silent guest stores what stands there already.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paging_core.guest import Cleaned, DirtyWords, GuestCounters
from paging_core.log_dirty import count, words_of
from paging_core.memory import GuestMemory

ACCESS_NS = 5000
CLEAN_NS = 7000


def busy(first: int, frames: int) -> Callable[[int], int]:
    """Writes round a window of frames."""
    return lambda position: first + position % frames


class FakeGuest:
    """Implements `paging_core.guest.Guest`."""

    def __init__(
        self,
        n_frames: int,
        target: Callable[[int], int] | None = None,
        *,
        access_ns: int = ACCESS_NS,
        clean_ns: int = CLEAN_NS,
        filtered: frozenset[int] = frozenset(),
        silent: bool = False,
    ) -> None:
        self.memory = GuestMemory(n_frames, "fake")
        self.position = 0
        self.stalled_ns = 0
        self.tracking = False
        self.on_access: Callable[[int], None] = lambda _position: None
        self._target = target
        self._access_ns = access_ns
        self._clean_ns = clean_ns
        self._filtered = filtered
        self._silent = silent
        self._time_ns = 0
        self._dirty: set[int] = set()
        self._faults = 0
        self._faults_cleaned = 0

    @property
    def n_frames(self) -> int:
        return self.memory.n_frames

    @property
    def time_ns(self) -> int:
        return self._time_ns

    def run(self, until_ns: int) -> None:
        while self._time_ns < until_ns:
            self._step()

    def run_accesses(self, count: int) -> None:
        for _ in range(count):
            self._step()

    @property
    def writes(self) -> bool:
        return self._target is not None

    def _step(self) -> None:
        self.on_access(self.position)
        if self._target is not None:
            gfn = self._target(self.position)
            if not self._silent:  # a value that is never the same
                self.memory.words[gfn, self.position % 512] = self.position + 1
            if self.tracking and gfn not in self._dirty:
                self._dirty.add(gfn)
                self._faults += 1
        self.position += 1
        self._time_ns += self._access_ns

    def stall(self, duration_ns: int) -> None:
        self._time_ns += duration_ns
        self.stalled_ns += duration_ns

    def start_tracking(self) -> None:
        self.tracking = True
        self._dirty.clear()
        self._faults = self._faults_cleaned = 0

    def clean(self) -> Cleaned:
        dirty = words_of(np.array(sorted(self._dirty - self._filtered), np.int64), self.n_frames)
        self._dirty.clear()
        self._time_ns += self._clean_ns
        faults = self._faults - self._faults_cleaned
        self._faults_cleaned = self._faults
        return Cleaned(dirty, count(dirty), faults, 0, self._clean_ns)

    def peek(self) -> DirtyWords:
        dirty = self._dirty | (self._filtered if self.tracking and self._target else set())
        return words_of(np.array(sorted(dirty), np.int64), self.n_frames)

    def stop_tracking(self) -> None:
        self.tracking = False

    def counters(self) -> GuestCounters:
        return GuestCounters(
            faults={"write_protect": self._faults, "fixup": self._faults, "total": self._faults},
            events={"access": self.position},
            tracking_ns={"fixup": 0},
            base_ns=self.position * self._access_ns,
            accesses=self.position,
        )

    def state(self) -> bytes:
        return self.position.to_bytes(8, "little")
