"""A fake guest: memory, a counter and a clock, nothing compiled."""

from __future__ import annotations

import json
from threading import Event

import numpy as np

from dest_host.factory import Resume
from paging_core.config import GuestConfig
from paging_core.errors import GuestOutOfMemory, InvalidInput, UnknownWorkload
from paging_core.guest import Cleaned, DirtyWords, GuestCounters
from paging_core.memory import GuestMemory

ACCESS_NS = 1000


class FakeGuest:
    """Access i writes i into the first word of frame i % n, and takes a microsecond.

    Attributes:
        crash_at: position at which its kernel gives up.
    """

    def __init__(self, memory: GuestMemory, position: int = 0, crash_at: int = 2**62) -> None:
        self.memory = memory
        self.position = position
        self.crash_at = crash_at

    @property
    def n_frames(self) -> int:
        return self.memory.n_frames

    @property
    def time_ns(self) -> int:
        return self.position * ACCESS_NS

    def run(self, until_ns: int) -> None:
        self.run_accesses(max(0, -(-(until_ns - self.time_ns) // ACCESS_NS)))

    def run_accesses(self, count: int) -> None:
        end = self.position + count
        for position in range(max(self.position, end - self.n_frames), min(end, self.crash_at)):
            self.memory.words[position % self.n_frames, 0] = position
        self.position = min(end, self.crash_at)
        if self.position == self.crash_at:
            raise GuestOutOfMemory("the guest's kernel found no free frame")

    def state(self) -> bytes:
        return json.dumps({"position": self.position, "crash_at": self.crash_at}).encode()

    def architectural_state(self) -> bytes:
        return str(self.position).encode()

    def close(self) -> None:
        self.memory.close()

    def stall(self, duration_ns: int) -> None:
        raise NotImplementedError

    def start_tracking(self) -> None:
        raise NotImplementedError

    def clean(self) -> Cleaned:
        raise NotImplementedError

    def peek(self) -> DirtyWords:
        raise NotImplementedError

    def stop_tracking(self) -> None:
        raise NotImplementedError

    def counters(self) -> GuestCounters:
        raise NotImplementedError


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
