"""Further kinds of guest, made of plain Python: they show that the interface is small.

It writes one word at a time to frames of a script, one access per `ACCESS_NS`, and tracks
what it wrote exactly. A D-bit filter can be imitated by naming frames that a clean drops
though a peek showed them. A silent guest stores what stands there already.

`FakePacedGuest` stands for a real one: it runs by itself, and knows what a tracker knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Thread

import numpy as np

from paging_core.errors import GuestOutOfMemory, IllegalTransition
from paging_core.guest import Cleaned, DirtyWords, GuestCounters, Parts
from paging_core.guest_accounts import Account, Accounts
from paging_core.log_dirty import count, words_of
from paging_core.memory import GuestMemory

ACCESS_NS = 5000
CLEAN_NS = 7000
ACCOUNTS = Accounts(
    faults={
        "write_protect": Account("writes", "A write to a clean frame."),
        "fixup": Account("of these: fixups", "All of them."),
    },
    causes={"fixup": Account("fixups", "None: they cost nothing here.")},
)


def busy(first: int, frames: int) -> Callable[[int], int]:
    """Writes round a window of frames."""
    return lambda position: first + position % frames


class FakeGuest:
    """Implements `paging_core.guest.Guest`."""

    def __init__(
        self,
        memory: GuestMemory | int,
        target: Callable[[int], int] | None = None,
        *,
        access_ns: int = ACCESS_NS,
        clean_ns: int = CLEAN_NS,
        filtered: frozenset[int] = frozenset(),
        silent: bool = False,
        position: int = 0,
        crash_at: int = 2**62,
    ) -> None:
        """A guest at rest.

        Args:
            memory: its own, or how many frames of it.
            target: the frame that is written at each position; None writes none.
            access_ns: what an access takes.
            clean_ns: what a clean takes.
            filtered: frames that a clean drops.
            silent: store what stands there already.
            position: where it goes on.
            crash_at: position at which its kernel gives up.
        """
        self.memory = GuestMemory(memory, "fake") if isinstance(memory, int) else memory
        self.position = position
        self.crash_at = crash_at
        self.trace_digest = 0
        self.stalled_ns = 0
        self.tracking = False
        self.on_access: Callable[[int], None] = lambda _position: None
        self._target = target
        self._access_ns = access_ns
        self._clean_ns = clean_ns
        self._filtered = filtered
        self._silent = silent
        self._time_ns = position * access_ns
        self._since = position
        self._dirty: set[int] = set()
        self._faults = 0
        self._faults_cleaned = 0

    @property
    def accounts(self) -> Accounts:
        return ACCOUNTS

    @property
    def parts(self) -> Parts:
        return Parts(driven=self, stepped=self, comparable=self)

    def check(self) -> None:
        if self.position >= self.crash_at:
            raise GuestOutOfMemory("the guest's kernel found no free frame")

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
        self.check()
        self.on_access(self.position)
        if self._target is not None:
            gfn = self._target(self.position)
            if not self._silent:  # a value that is never the same
                self._store(gfn)
            if self.tracking and gfn not in self._dirty:
                self._dirty.add(gfn)
                self._faults += 1
        self.position += 1
        self._time_ns += self._access_ns
        self.check()

    def _store(self, gfn: int) -> None:
        self.memory.words[gfn, self.position % 512] = self.position + 1

    def stall(self, duration_ns: int) -> None:
        self._time_ns += duration_ns
        self.stalled_ns += duration_ns

    def start_tracking(self) -> None:
        if self.tracking:
            raise IllegalTransition("this guest's writes are being logged already")
        self.tracking = True
        self._since = self.position
        self._dirty.clear()
        self._faults = self._faults_cleaned = 0

    def clean(self) -> Cleaned:
        self._check_logging()
        dirty = words_of(np.array(sorted(self._dirty - self._filtered), np.int64), self.n_frames)
        self._dirty.clear()
        self._time_ns += self._clean_ns
        faults = self._faults - self._faults_cleaned
        self._faults_cleaned = self._faults
        return Cleaned(dirty, count(dirty), faults, 0, self._clean_ns)

    def peek(self) -> DirtyWords:
        self._check_logging()
        dirty = self._dirty | (self._filtered if self.tracking and self._target else set())
        return words_of(np.array(sorted(dirty), np.int64), self.n_frames)

    def stop_tracking(self) -> None:
        self.tracking = False

    def counters(self) -> GuestCounters:
        return GuestCounters(
            faults={"write_protect": self._faults, "fixup": self._faults, "total": self._faults},
            events={"access": self.position - self._since},
            tracking_ns={"fixup": 0},
            base_ns=(self.position - self._since) * self._access_ns,
            accesses=self.position - self._since,
        )

    def _check_logging(self) -> None:
        if not self.tracking:
            raise IllegalTransition("this guest's writes are not logged; start tracking first")

    def state(self) -> bytes:
        return self.position.to_bytes(8, "little")

    def architectural_state(self) -> bytes:
        return str(self.position).encode()

    def close(self) -> None:
        self.memory.close()


class FakePacedGuest(FakeGuest):
    """Runs in a thread of its own between `resume` and `pause`, and knows no truth.

    Every access takes a lock: what is asked meanwhile is asked between two of them.
    """

    def __init__(
        self, memory: GuestMemory | int, target: Callable[[int], int], position: int = 0
    ) -> None:
        super().__init__(memory, target, position=position)
        self._turn = Condition()
        self._runs = self._closed = False
        self._thread = Thread(target=self._loop, daemon=True)
        self._thread.start()

    @property
    def parts(self) -> Parts:
        return Parts(paced=self, comparable=self)

    def resume(self) -> None:
        self.check()
        with self._turn:
            self._runs = True
            self._turn.notify_all()

    def pause(self) -> None:
        with self._turn:
            self._runs = False
        self.check()

    def clean(self) -> Cleaned:
        with self._turn:
            known = super().clean()
            return Cleaned(known.dirty, known.dirty_count, known.fault_count, None, known.cost_ns)

    def start_tracking(self) -> None:
        with self._turn:
            super().start_tracking()

    def stop_tracking(self) -> None:
        with self._turn:
            super().stop_tracking()

    def peek(self) -> DirtyWords:
        with self._turn:
            return super().peek()

    def counters(self) -> GuestCounters:
        with self._turn:
            known = super().counters()
            return GuestCounters(known.faults, {}, known.tracking_ns, None, known.accesses)

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._thread.join()
        super().close()

    def _loop(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._runs or self._closed)
                if self._closed:
                    return
                try:
                    self._step()
                except GuestOutOfMemory:
                    self._runs = False
            time.sleep(0)  # others have a turn
