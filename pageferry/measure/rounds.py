"""Rounds of a measurement: a program tracked in one way, or in none, for some time."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pageferry.measure.throughput import Throughput
from pageferry.measure.trackers import (
    AsyncTracking,
    Look,
    NotTracking,
    SyncTracking,
    Tracking,
)
from pageferry.record.errors import CannotRecord
from pageferry.record.guest_ram import GuestRam
from paging_core.units import NS_PER_S

ONLY_GUEST_RAM = (
    "only the RAM that was found in a running QEMU is protected synchronously: in other memory a "
    "thread that ends stores where the kernel waits for no handler, and who joins it would wait "
    "for ever; measure this process with --tracking uffd-async"
)
UNTRACKED, ASYNC, SYNC = "none", "uffd-async", "uffd-sync"


class Way(NamedTuple):
    """How a program is tracked.

    Attributes:
        tracking: UNTRACKED, ASYNC or SYNC.
        n: pages that a fault opens; 1 where it is not SYNC.
    """

    tracking: str
    n: int = 1


class Plan(NamedTuple):
    """What is measured.

    Attributes:
        ways: one round each, in this order, and then again.
        rounds: how often.
        for_ns: how long a round is, at least.
        every_ns: time between two looks.
        throughput: a shell's command that prints how fast the program is; empty: nobody asks.
        content: whether to read what was opened.
        ram: of a virtual machine; None: all that the process can write.
    """

    ways: tuple[Way, ...]
    rounds: int
    for_ns: int
    every_ns: int
    throughput: str
    content: bool
    ram: GuestRam | None


@dataclass
class Round:
    """What one round found.

    Attributes:
        way: how the program was tracked.
        duration_ns: from when it was protected to the last look.
        looks: one for each window.
        latency: faults by the time that the handler took, bins of powers of two, ns.
        throughput: what the command printed; None: none was given.
        stopped_ns: for how long the program stood still to be attached to.
        left_out: what of its memory was not tracked.
    """

    way: Way
    duration_ns: int = 0
    looks: list[Look] = field(default_factory=list)
    latency: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(64, np.int64))
    throughput: float | None = None
    stopped_ns: int = 0
    left_out: list[str] = field(default_factory=list)

    def total(self, name: str) -> int:
        """The sum of a field of all looks."""
        return sum(getattr(one, name) or 0 for one in self.looks)


def track(pid: int, way: Way, ram: GuestRam | None, *, content: bool) -> Tracking:
    """Begin to track a program.

    Raises:
        CannotRecord: it cannot be tracked in this way; says why.
    """
    if way.tracking == SYNC:
        if ram is None:
            raise CannotRecord(ONLY_GUEST_RAM)
        return SyncTracking(pid, ram, way.n, content=content)
    return AsyncTracking(pid, ram) if way.tracking == ASYNC else NotTracking()


def run_round(pid: int, way: Way, plan: Plan) -> Round:
    """Track a program for a round, and leave it as it was.

    Raises:
        CannotRecord: it cannot be tracked, or has ended; or the command did not say how fast it is.
    """
    found = Round(way)
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        raise CannotRecord(f"process {pid} has ended ({error.strerror})") from error
    try:
        tracking = track(pid, way, plan.ram, content=plan.content)
    except BaseException:
        os.close(process)
        raise
    try:
        _look_until_over(process, tracking, plan, found)
        found.latency = tracking.latency()
        found.stopped_ns, found.left_out = tracking.stopped_ns, tracking.left_out
    finally:
        tracking.close()
        os.close(process)
    return found


def _look_until_over(process: int, tracking: Tracking, plan: Plan, found: Round) -> None:
    began_ns = next_ns = time.monotonic_ns()
    with Throughput(plan.throughput) as asked:
        while found.duration_ns < plan.for_ns or asked.runs():
            next_ns = max(next_ns + plan.every_ns, time.monotonic_ns())
            wait_s = max(0, next_ns - time.monotonic_ns()) / NS_PER_S
            if select.select([process], [], [], wait_s)[0]:
                raise CannotRecord("the process ended while it was measured")
            found.looks.append(tracking.look())
            found.duration_ns = time.monotonic_ns() - began_ns
        found.throughput = asked.number()


@dataclass(frozen=True)
class Measured:
    """All rounds of one way of tracking.

    Attributes:
        way: how the program was tracked.
        rounds: in their order.
    """

    way: Way
    rounds: tuple[Round, ...]

    @property
    def looks(self) -> list[Look]:
        """Of all rounds."""
        return [one for each in self.rounds for one in each.looks]

    @property
    def seconds(self) -> float:
        """Time of all rounds."""
        return sum(one.duration_ns for one in self.rounds) / NS_PER_S

    @property
    def latency(self) -> npt.NDArray[np.int64]:
        """Of all rounds."""
        total = np.zeros(64, np.int64)
        for one in self.rounds:
            total += one.latency
        return total

    @property
    def throughput(self) -> list[float]:
        """What the command said, round by round."""
        return [one.throughput for one in self.rounds if one.throughput is not None]

    def against(self, untracked: Measured) -> float | None:
        """Median throughput ÷ that without tracking; None where it is not known."""
        mine, theirs = self.throughput, untracked.throughput
        return median(mine) / median(theirs) if mine and theirs and median(theirs) else None


def percentile_below_ns(latency: npt.NDArray[np.int64], share: float) -> int | None:
    """A time that so many faults were answered in at most: the end of a bin; None of no faults."""
    total = int(latency.sum())
    if not total:
        return None
    return 1 << int(np.searchsorted(np.cumsum(latency), share * total))
