"""How long a guest may stand still before its migration is given up.

On the real clock the time is what passes, and a thread ends the stop-and-copy when it is over,
whatever it waits for. On the virtual clock the time is the model's: it is looked at as it passes,
so that the same seed ends in the same way; a destination that says nothing makes no modelled
time pass, so what the thread watches there is its silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Thread

from paging_core.errors import DowntimeExceeded
from paging_core.units import NS_PER_S
from source_host.precopy.clock_name import ClockName
from source_host.precopy.clocks import Clock
from source_host.precopy.plan import Plan

SILENCE_NS = 30 * NS_PER_S
"""On the virtual clock, wall time without any progress; --max-downtime if that is longer."""
LEAST_ANSWER_S = 1.0
"""A commit gets at least so long for its answer: too short a time makes doubts of slow answers."""
MOST_ANSWER_S = 60.0


class Standstill:
    """The time in which the guest stands still. Begins once, ends once."""

    def __init__(self, plan: Plan, give_up: Callable[[DowntimeExceeded], None]) -> None:
        """The guest runs yet.

        Args:
            plan: says how long.
            give_up: told, from a thread of this object, that the time is over.
        """
        self._limit_ns = plan.most_downtime_ns
        self._round_trip_ns = plan.link.round_trip_ns if plan.link else 0
        self._real = plan.clock is ClockName.REAL
        self._watched_ns = self._limit_ns if self._real else max(self._limit_ns, SILENCE_NS)
        self._give_up = give_up
        self._clock: Clock | None = None
        self._began_ns = 0
        self._turn = Condition()
        self._until_ns = 0
        self._ended = False
        self._thread: Thread | None = None

    def begin(self, clock: Clock) -> None:
        """The guest is about to be paused."""
        self._clock, self._began_ns = clock, clock.now_ns
        self._until_ns = time.monotonic_ns() + self._watched_ns
        self._thread = Thread(target=self._watch, name="standstill", daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Something went on; nothing happens before `begin`.

        Raises:
            DowntimeExceeded: the modelled time is over.
        """
        if self._clock is None or self._real:
            return
        self._check(0)
        with self._turn:
            self._until_ns = time.monotonic_ns() + self._watched_ns

    def check_commit(self) -> None:
        """Whether a commit can still be answered in time.

        Raises:
            DowntimeExceeded: the modelled time would be over.
        """
        if not self._real:
            self._check(self._round_trip_ns)

    @property
    def answer_s(self) -> float:
        """How long the answer to a commit may take, wall time."""
        left_s = (self._until_ns - time.monotonic_ns()) / NS_PER_S
        return min(MOST_ANSWER_S, max(LEAST_ANSWER_S, left_s))

    def end(self) -> None:
        """The guest has moved, goes on, or is in doubt: the time does not count any more."""
        with self._turn:
            self._ended = True
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._clock = None

    def _check(self, more_ns: int) -> None:
        if self._clock is not None and (
            self._clock.now_ns + more_ns - self._began_ns > self._limit_ns
        ):
            raise self._error()

    def _watch(self) -> None:
        with self._turn:
            while not self._ended:
                left_ns = self._until_ns - time.monotonic_ns()
                if left_ns <= 0:
                    break
                self._turn.wait(left_ns / NS_PER_S)
            ended = self._ended
        if not ended:
            self._give_up(self._error() if self._real else self._silence())

    def _error(self) -> DowntimeExceeded:
        return DowntimeExceeded(
            f"the guest would have stood still for more than {_seconds(self._limit_ns)}, the most "
            "that --max-downtime allows; it goes on at the source: see what holds the destination "
            "or the network up, let the guest write less, or raise --max-downtime"
        )

    def _silence(self) -> DowntimeExceeded:
        return DowntimeExceeded(
            f"the guest stood still and nothing came of the destination for "
            f"{_seconds(self._watched_ns)}; it goes on at the source: see whether the "
            "destination is overloaded or stuck"
        )


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / NS_PER_S:g} s"
