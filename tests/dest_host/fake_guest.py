"""A fake guest: memory, a counter and a clock, nothing compiled."""

from __future__ import annotations

import json
from threading import Event

import numpy as np

from paging_core.config import GuestConfig
from paging_core.errors import InvalidInput, UnknownWorkload
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from tests.guests.fake import FakeGuest as Fake

ACCESS_NS = 1000
CONFIG = GuestConfig(2**21)
"""That fake guests are said to be of."""


class FakeGuest(Fake):
    """Access i writes i into the first word of frame i % n, and takes a microsecond.

    Attributes:
        crash_at: position at which its kernel gives up.
    """

    def __init__(self, memory: GuestMemory, position: int = 0, crash_at: int = 2**62) -> None:
        super().__init__(
            memory,
            lambda at: at % memory.n_frames,
            access_ns=ACCESS_NS,
            position=position,
            crash_at=crash_at,
        )

    def _store(self, gfn: int) -> None:
        self.memory.words[gfn, 0] = self.position

    def run(self, until_ns: int) -> None:
        self.run_accesses(max(0, -(-(until_ns - self.time_ns) // ACCESS_NS)))

    def run_accesses(self, count: int) -> None:
        """Untracked, all but the last round of frames is written once more anyway: left out."""
        skipped = 0 if self.tracking else min(count, self.crash_at - self.position) - self.n_frames
        if skipped > 0:
            self.position += skipped
            self._time_ns += skipped * ACCESS_NS
            count -= skipped
        super().run_accesses(count)

    def state(self) -> bytes:
        return json.dumps({"position": self.position, "crash_at": self.crash_at}).encode()


class FakeFactory:
    """Makes fake guests; the workload ``none`` is unknown to it.

    Attributes:
        may_resume: cleared, a commit waits in the middle of being carried out.
        resuming: set once a commit has got there.
        broken: a commit fails in an unexpected way.
    """

    def __init__(self) -> None:
        self.may_resume = Event()
        self.may_resume.set()
        self.resuming = Event()
        self.broken = False

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:  # noqa: ARG002
        if config.workload == "none":
            raise UnknownWorkload("there is no workload 'none'; see pageferry workloads")
        return self._resume

    def _resume(self, memory: GuestMemory, state: bytes) -> FakeGuest:
        self.resuming.set()
        assert self.may_resume.wait(30)
        if self.broken:
            raise ZeroDivisionError("a bug")
        try:
            document = json.loads(state)
        except ValueError as error:
            raise InvalidInput("these bytes are no guest state") from error
        return FakeGuest(memory, document["position"], document["crash_at"])


class Clock:
    """Time that passes when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def filled_memory(n_frames: int, seed: int) -> GuestMemory:
    """A third zeros, the rest noise."""
    memory = GuestMemory(n_frames)
    noise = np.random.default_rng(seed).integers(0, 256, memory.frames.shape, np.uint8)
    noise[::3] = 0
    memory.frames[:] = noise
    return memory
