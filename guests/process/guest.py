"""A process as guest: it satisfies `paging_core.guest.Guest`, on the real clock.

Its memory is a memory file that is mapped here, its load the model's workloads and traces, executed
by the model's guest kernel: the same operations leave the same bytes, page tables included. What
is real is the storing and the tracking: memory is write-protected by the kernel, a store to a
protected page faults, and a handler opens its page group.

It is meant to be alone in its process. What is asked of it while it runs holds it between two
operations, so every answer is of one moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from guests.process.runner import Runner
from guests.process.tracking import AsynchronousTracking, SynchronousTracking
from paging_core.config import GuestConfig, GuestKind, Paging, TrackerConfig, Tracking
from paging_core.density import Written
from paging_core.errors import GuestCrashed, IllegalTransition
from paging_core.events import Event
from paging_core.guest import Cleaned, DirtyWords, GuestCounters, Parts
from paging_core.guest_accounts import PROCESS, Accounts
from paging_core.guest_state import architectural_state, decode_state, encode_state
from paging_core.kernels.log_dirty_ops import take_bitmap
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.units import PS_PER_NS
from paging_core.workloads.ops import Workload

_ACCESS = int(Event.ACCESS)


class ProcessGuest:
    """A guest whose stores are real. One caller at a time.

    Attributes:
        config: what it was made from.
        memory: its frames.
    """

    accounts: Accounts = PROCESS

    def __init__(self, config: GuestConfig, executor: ModelGuest, ran_ns: int) -> None:
        """Use `boot` or `resume_from`.

        Args:
            config: of the guest.
            executor: whose machine executes its operations; untracked, and this guest's own.
            ran_ns: how long it ran before.
        """
        self.config = config
        self.memory: GuestMemory = executor.memory
        self._executor = executor
        _make_free(executor)
        self._runner = Runner(executor.machine.record, executor.workload, executor.position, ran_ns)
        self._tracking: SynchronousTracking | AsynchronousTracking | None = None
        self._seen = _Seen()
        self._start = (executor.machine.core.copy(), self._runner.record.copy())
        self._final: GuestCounters | None = None

    @classmethod
    def boot(
        cls,
        config: GuestConfig,
        memory: GuestMemory | None = None,
        look_up: Callable[[], None] = lambda: None,
    ) -> ProcessGuest:
        """A fresh guest: stands still, untracked, at the beginning of its load.

        Args:
            config: what it is made of.
            memory: its frames, all zero; made when None.
            look_up: called now and then while it boots; what it raises ends that.

        Raises:
            As `paging_core.model_guest.ModelGuest.boot`.
        """
        return cls(config, ModelGuest.boot(executor_config(config), memory, look_up=look_up), 0)

    @classmethod
    def resume_from(
        cls, memory: GuestMemory, state: bytes, workload: Workload | None = None
    ) -> ProcessGuest:
        """Go on with a guest whose memory and state came from elsewhere; it stands still.

        Args:
            memory: all of its frames.
            state: what `state` returned there.
            workload: what it runs; must be given to a guest that replays a trace.

        Raises:
            InvalidInput: not a state of such a guest, or memory that none could have.
        """
        config, vcpu, time_ps = decode_state(state)
        inner = encode_state(executor_config(config), vcpu, 0)
        executor = ModelGuest.resume(memory, inner, workload)
        return cls(config, executor, time_ps // PS_PER_NS)

    @property
    def parts(self) -> Parts:
        """See `paging_core.guest.Guest`."""
        learns = self.config.tracker.group.adaptive
        return Parts(paced=self, stepped=self, learner=self if learns else None, comparable=self)

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""
        return self.memory.n_frames

    @property
    def trace_digest(self) -> int:
        """XXH3-64 of the trace that it replays; 0 without one."""
        return self._executor.trace_digest

    @property
    def time_ns(self) -> int:
        """Time that it ran, on the clock of its machine."""
        return self._runner.ran_ns

    @property
    def position(self) -> int:
        """Operations executed since it booted."""
        return self._runner.position

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """Its progress over time: rows of time that it ran (ns) and position, oldest first."""
        return self._runner.samples

    @property
    def latency(self) -> npt.NDArray[np.int64]:
        """Operations that met a handled fault, by what they took: int64 (64,), bin k to 2**k ns."""
        latency: npt.NDArray[np.int64] = self._runner.record["latency"][0].copy()
        return latency

    def resume(self) -> None:
        """See `paging_core.guest.Paced`."""
        self._runner.resume()

    def pause(self) -> None:
        """See `paging_core.guest.Paced`.

        Raises:
            GuestCrashed: it stands still for good.
        """
        self._runner.pause()
        self.check()

    def run_accesses(self, count: int) -> None:
        """Execute exactly `count` more operations, as fast as it goes; it stood still.

        Raises:
            GuestCrashed: it gave up.
        """
        self._runner.run(count)
        self.check()

    def check(self) -> None:
        """See `paging_core.guest.Guest`.

        Raises:
            GuestCrashed: its kernel gave up, or its load cannot be read any more.
            TrackingLost: its writes are not tracked any more, though they should be.
        """
        if self._runner.failure is not None:
            raise GuestCrashed(f"the guest's load ended: {self._runner.failure}")
        self._executor.check()
        if self._tracking is not None:
            self._tracking.check()

    def start_tracking(self) -> None:
        """See `paging_core.guest.Guest`.

        Raises:
            CannotTrack: not on this machine, or not by this user; says what to do.
        """
        if self._tracking is not None:
            raise IllegalTransition("this guest's writes are being logged already")
        with self._runner.held():
            take_bitmap(self._executor.machine.record)
            self._tracking = self._track()
            self._runner.look_at(self._tracking.faults)
            self._seen = _Seen()
            self._start = (self._executor.machine.core.copy(), self._runner.record.copy())
            self._final = None

    def _track(self) -> SynchronousTracking | AsynchronousTracking:
        if self.config.tracking is Tracking.UFFD_ASYNC:
            return AsynchronousTracking(self.memory)
        return SynchronousTracking(self.memory, self.config.tracker.group, self.config.costs)

    def clean(self) -> Cleaned:
        """See `paging_core.guest.Guest`. What was really written is known from the load.

        Raises:
            TrackingLost: the handler of its faults has ended.
        """
        tracking, machine = self._tracked(), self._executor.machine
        before_ns = time.monotonic_ns()
        with self._runner.held():
            dirty = tracking.clean()
            machine.dirty.view(np.uint64)[:] = dirty
            written = Written.of(np.flatnonzero(machine.frames["written"]))
            false_count = take_bitmap(machine.record)
        cost_ns = time.monotonic_ns() - before_ns
        counts = self._seen.since(tracking, dirty)
        return Cleaned(dirty, counts[0], counts[1], false_count, cost_ns, written=written)

    def peek(self) -> DirtyWords:
        """See `paging_core.guest.Guest`."""
        return self._tracked().peek()

    def stop_tracking(self) -> None:
        """See `paging_core.guest.Guest`; what was counted stays."""
        if self._tracking is None:
            return
        with self._runner.held():
            self._final = self.counters()
            tracking, self._tracking = self._tracking, None
            tracking.close()

    def note_sent(self, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
        """See `paging_core.guest.SendObserver`."""
        if isinstance(self._tracking, SynchronousTracking):
            self._tracking.note_sent(gfns, changed)

    def counters(self) -> GuestCounters:
        """Totals since tracking was started (or since the guest came here)."""
        if self._tracking is None and self._final is not None:
            return self._final
        core, then = self._start
        now = self._runner.record.copy()
        waited_ns = int(now["stalled_ns"][0] - then["stalled_ns"][0])
        faults = self._faults()
        return GuestCounters(
            faults={**faults, "total": sum(n for kind, n in faults.items() if kind != "fixup")},
            events={},
            tracking_ns={"fixup": waited_ns},
            base_ns=int(now["ran_ns"][0] - then["ran_ns"][0]) - waited_ns,
            accesses=_accesses(self._executor.machine.core) - _accesses(core),
        )

    def _faults(self) -> dict[str, int]:
        tracking = self._tracking
        if tracking is None:
            return dict.fromkeys(PROCESS.faults, 0)
        record = tracking.faults[0]
        kernels = tracking.kernel_fixups
        return {
            "userfault": int(record["messages"]),
            "kernel_fixup": kernels,
            "fixup": int(record["fixups"]) + kernels,
        }

    def state(self) -> bytes:
        """See `paging_core.guest.Guest`."""
        core = self._executor.machine.core
        core["vcpu"]["position"] = self.position
        return encode_state(self.config, core["vcpu"], self.time_ns * PS_PER_NS)

    def architectural_state(self) -> bytes:
        """See `paging_core.guest.Comparable`."""
        core = self._executor.machine.core
        core["vcpu"]["position"] = self.position
        return architectural_state(self.config, core["vcpu"])

    def close(self) -> None:
        """See `paging_core.guest.Guest`."""
        self._runner.pause()
        tracking, self._tracking = self._tracking, None
        if tracking is not None:
            tracking.close()
        self._executor.close()

    def _tracked(self) -> SynchronousTracking | AsynchronousTracking:
        if self._tracking is None:
            raise IllegalTransition("this guest's writes are not logged; start tracking first")
        return self._tracking


class _Seen:
    """What earlier cleans have told already."""

    def __init__(self) -> None:
        self._messages = 0

    def since(
        self, tracking: SynchronousTracking | AsynchronousTracking, dirty: DirtyWords
    ) -> tuple[int, int]:
        """Frames that became dirty, and faults, since the last clean."""
        record = tracking.faults[0]
        messages = int(record["messages"]) + tracking.kernel_fixups
        faults, self._messages = messages - self._messages, messages
        return int(np.bitwise_count(dirty).sum()), faults


def executor_config(config: GuestConfig) -> GuestConfig:
    """The model whose machine executes a guest's operations: hardware pages, nothing tracked."""
    tracker = TrackerConfig(paging=Paging.HAP)
    return replace(config, kind=GuestKind.MODEL, tracker=tracker)


def _make_free(executor: ModelGuest) -> None:
    """Nothing but the load's own time passes in it: what it costs here, the real clock tells."""
    prices = executor.machine.core["time"]["cost_ps"]
    access_ps = int(prices[0, _ACCESS])
    prices[:] = 0
    prices[0, _ACCESS] = access_ps


def _accesses(core: npt.NDArray[np.void]) -> int:
    return int(core["time"][0]["base_events"][_ACCESS])
