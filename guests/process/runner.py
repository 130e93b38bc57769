"""Runs a guest's operations on a thread of its own, and stands it still.

The thread's loop is compiled and holds no interpreter lock; only for the next operations of the
load does it come back to Python.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from guests.linux.handler_state import HANDLER_DTYPE
from guests.process.run_loop import N_RUN_SCRATCH, run_operations
from guests.process.run_state import N_SAMPLES, RUN_DTYPE
from paging_core.kernels.state import Core
from paging_core.workloads.ops import OP_DTYPE, Ops, Workload

_CHUNK_OPS = 16384
_LOOK_AGAIN_S = 20e-6


class Runner:
    """What runs a guest. One caller at a time.

    Attributes:
        record: one record of RUN_DTYPE.
        failure: what ended its thread, if anything did.
    """

    def __init__(self, core: Core, workload: Workload, position: int, ran_ns: int) -> None:
        """A guest that stands still.

        Args:
            core: of the machine that executes.
            workload: what the operations come from.
            position: of the next one.
            ran_ns: how long the guest ran before.
        """
        self._core = core
        self._workload = workload
        self._ops: Ops = np.zeros(_CHUNK_OPS, OP_DTYPE)
        self._ops_start = -1
        self._scratch = np.zeros(N_RUN_SCRATCH, np.int64)
        self._samples = np.zeros((N_SAMPLES, 2), np.int64)
        self.record: Any = np.zeros(1, RUN_DTYPE)
        self.record["scratch_at"] = self._scratch.ctypes.data
        self.record["position"] = position
        self.record["ran_ns"] = ran_ns
        self._faults: Any = np.zeros(1, HANDLER_DTYPE)
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None

    @property
    def position(self) -> int:
        """Of the next operation."""
        return int(self.record["position"][0])

    @property
    def ran_ns(self) -> int:
        """Time that the guest ran, in all."""
        return int(self.record["ran_ns"][0])

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """The guest's progress: rows of time that it ran (ns) and position, oldest first."""
        taken = int(self.record["samples"][0])
        return np.roll(self._samples, -(taken % N_SAMPLES), axis=0)[-min(taken, N_SAMPLES) :].copy()

    def look_at(self, faults: Any) -> None:
        """Tell an operation that waited for a fault by this handler's record; it stands still."""
        self._faults = faults

    def resume(self) -> None:
        """Let it run at its pace; returns at once."""
        if self._thread is not None:
            return
        self.record["stop"] = 0
        self._thread = threading.Thread(target=self._run_on, name="guest", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop it between two operations; it stands still when this returns."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self.record["stop"] = 1
            thread.join()

    def run(self, count: int) -> None:
        """Execute exactly so many operations, as fast as it goes, on the caller's thread.

        It stops short where the guest gives up.
        """
        self.record["stop"] = 0
        end = self.position + count
        while self.position < end and self._some(end - self.position, paced=False):
            pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """It stands still between two operations meanwhile, without its thread ending."""
        self.record["hold"] = 1
        try:
            while self.record["inside"][0] and not self.record["held"][0]:
                time.sleep(_LOOK_AGAIN_S)
            yield
        finally:
            self.record["hold"] = 0

    def _run_on(self) -> None:
        try:
            while not self.record["stop"][0] and self._some(_CHUNK_OPS, paced=True):
                pass
        except BaseException as failure:  # noqa: BLE001 - `failure` is looked at by the guest
            self.failure = failure

    def _some(self, limit: int, *, paced: bool) -> bool:
        """Run to the end of the operations at hand at most; returns whether more can follow."""
        record, position = self.record, self.position
        at = position - self._ops_start
        if self._ops_start < 0 or not 0 <= at < _CHUNK_OPS:
            self._ops_start, at = -1, 0
            self._workload.fill(position, self._ops)
            self._ops_start = position
        record["first"], record["paced"], record["origin_ns"] = self._ops_start, paced, -1
        ops = self._ops[: min(_CHUNK_OPS, at + limit)]
        record["inside"] = 1
        try:
            reached = run_operations(
                self._core, record[0], self._faults[0], ops, at, self._samples, self._scratch
            )
        finally:
            record["inside"] = 0
        record["position"] = self._ops_start + reached
        return reached == len(ops)
