"""A long run of a guest in strides, so that callers who wait for it are served in between.

Where a run is cut changes nothing: a guest runs operation after operation until its time or their
number is reached, and stops at the same one whether it was asked once or a thousand times.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from paging_core.guest import Driven, Stepped

STRIDE_WALL_S = 0.1
"""How long a stride should take: a cancel waits for as long."""
_FIRST, _LONGEST = 10_000, 2**40
"""Nanoseconds or operations of a stride; in between it is fitted to how fast the guest runs."""


class Strides:
    """Runs a guest, looking up between two strides."""

    def __init__(
        self, look_up: Callable[[], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start with short strides.

        Args:
            look_up: called before each stride; what it raises ends the run there.
            clock: seconds, to fit the strides by.
        """
        self._look_up = look_up
        self._clock = clock
        self._length = _FIRST

    def run(self, guest: Driven, until_ns: int) -> None:
        """Let it run until that time; raises what `look_up` or the guest raises."""
        while (at_ns := guest.time_ns) < until_ns:
            self._stride(guest.run, min(until_ns, at_ns + self._length), until_ns - at_ns)

    def run_accesses(self, guest: Stepped, count: int) -> None:
        """Let it execute exactly so many operations; otherwise like `run`."""
        while count > 0:
            stride = min(count, self._length)
            self._stride(guest.run_accesses, stride, count)
            count -= stride

    def _stride(self, run: Callable[[int], None], argument: int, left: int) -> None:
        self._look_up()
        began_s, whole = self._clock(), left >= self._length
        run(argument)
        took_s = self._clock() - began_s
        if took_s > STRIDE_WALL_S:
            self._length = max(1, self._length // 2)
        elif whole and took_s < STRIDE_WALL_S / 4:
            self._length = min(_LONGEST, self._length * 2)
