"""The vCPU's thread: gives the program its operations, at the load's pace, and stands it still.

The pace is kept by the chunk: a chunk is as many operations as the load has in a millisecond, and
the next one is given when its time has come. A guest that is behind catches up by 2 ms at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from guests.kvm.program import Control, Report
from guests.kvm.runner import Runner
from paging_core.errors import GuestCrashed
from paging_core.units import PS_PER_NS
from paging_core.workloads.ops import IDLE, OP_DTYPE, SWITCH, Ops, Workload

_CHUNK_OPS = 16384
_PACE_NS = 1_000_000
_SLACK_NS = 2_000_000
_NS_PER_S = 1e9


class VcpuThread:
    """What runs a guest. One caller at a time.

    Attributes:
        position: operations executed since the guest booted.
        process: whose address space is loaded.
        ran_ns: how long it ran.
        failure: what ended its thread, if anything did.
    """

    def __init__(
        self, runner: Runner, workload: Workload, position: int, process: int, ran_ns: int
    ) -> None:
        """A guest that stands still; see the attributes."""
        self._runner = runner
        self._workload = workload
        self._ops: Ops = np.zeros(_CHUNK_OPS, OP_DTYPE)
        self._ops_start = -1
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.position, self.process, self.ran_ns = position, process, ran_ns
        self.failure: BaseException | None = None

    @property
    def runs(self) -> bool:
        """Whether it was told to run."""
        return self._thread is not None

    def resume(self) -> None:
        """Let it run at its pace; returns at once."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._runner.device.control[Control.STOP] = 0
        self._thread = threading.Thread(target=self._run_on, name="vcpu", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop it between two operations; it stands still when this returns."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            self._runner.device.control[Control.STOP] = 1
            thread.join()
            self._runner.device.control[Control.STOP] = 0

    def run(self, count: int) -> None:
        """Execute exactly so many operations, as fast as it goes, on the caller's thread.

        Raises:
            GuestCrashed: it cannot.
        """
        end = self.position + count
        begun_ns = time.monotonic_ns()
        try:
            while self.position < end:
                self._execute(self._next(end - self.position))
        finally:
            self.ran_ns += time.monotonic_ns() - begun_ns

    @contextmanager
    def held(self) -> Iterator[None]:
        """It stands still between two operations meanwhile."""
        ran = self.runs
        self.pause()
        try:
            yield
        finally:
            if ran and self.failure is None:
                self.resume()

    def _run_on(self) -> None:
        begun_ns = due_ns = time.monotonic_ns()
        ran_before_ns = self.ran_ns
        try:
            while not self._stop.is_set():
                ops = self._paced(self._next(_CHUNK_OPS))
                self._execute(ops)
                now_ns = time.monotonic_ns()
                self.ran_ns = ran_before_ns + now_ns - begun_ns
                due_ns = max(due_ns + _load_ns(ops), now_ns - _SLACK_NS)
                if due_ns > now_ns:
                    self._stop.wait((due_ns - now_ns) / _NS_PER_S)
        except BaseException as failure:  # noqa: BLE001 - the guest looks at `failure`
            self.failure = failure
        self.ran_ns = ran_before_ns + time.monotonic_ns() - begun_ns

    def _next(self, limit: int) -> Ops:
        """The operations from the position on, up to the end of those at hand or the next switch.

        A switch comes alone: its host does it.
        """
        at = self.position - self._ops_start
        if self._ops_start < 0 or not 0 <= at < _CHUNK_OPS:
            self._ops_start, at = -1, 0
            self._workload.fill(self.position, self._ops)
            self._ops_start = self.position
        end = min(_CHUNK_OPS, at + limit, at + self._runner.device.capacity)
        ops = self._ops[at:end]
        switches = np.flatnonzero(ops["kind"] == SWITCH)
        if len(switches):
            ops = ops[: max(1, int(switches[0]))]
        return ops

    def _paced(self, ops: Ops) -> Ops:
        """Of these, what the load has in a millisecond; one at least."""
        until = np.cumsum(_times_ns(ops)).searchsorted(_PACE_NS, side="right")
        return ops[: max(1, int(until))]

    def _execute(self, ops: Ops) -> None:
        if ops["kind"][0] == SWITCH:
            self.process = int(ops["address"][0])
            self._runner.execute(ops)
            self.position += 1
            return
        before = self._runner.steps
        stopped = self._runner.give(ops) is Report.STOPPED
        done = self._runner.steps - before
        if not 0 <= done <= len(ops) or (done < len(ops) and not stopped):
            raise GuestCrashed(
                f"the guest says that it executed {done} of {len(ops)} operations; "
                "delete it and boot it anew"
            )
        self.position += done


def _times_ns(ops: Ops) -> np.ndarray:
    idle = np.where(ops["kind"] == IDLE, ops["value"], 0)
    times: np.ndarray = ops["gap_ps"].astype(np.int64) // PS_PER_NS + idle
    return times


def _load_ns(ops: Ops) -> int:
    return int(_times_ns(ops).sum())
