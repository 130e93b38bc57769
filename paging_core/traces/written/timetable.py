"""When a guest does what in a lap of a trace of written pages: its operations by number.

A window of K touches (a row, or every frame of a row's page where pages are larger) and length L
has its touches L / K apart. Time without touches is idle operations of a millisecond at most, so
that a guest stops close to the moment that it was told to. Which touch comes when within a window
was never recorded: touch number k of a window is its row (shift + k × stride) modulo K, with a
stride near 0.618 K that has no factor in common with K. So every row comes once, neighbours in
memory are written far apart in time, and the shift is drawn anew for every window and lap. Whether
a row comes before another, `Timetable.order` says: the read of a page that is written as well does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.traces.written.profile import WindowTable
from paging_core.units import PS_PER_NS
from paging_core.workloads.pacing import MAX_IDLE_NS
from paging_core.workloads.randomness import fill_draws_at

_Ints = npt.NDArray[np.int64]
_MOST_GAP_NS = 4_000_000
"""A longer time between two touches becomes idle operations; a record holds 4.29 ms."""
_IDLE_PS = MAX_IDLE_NS * PS_PER_NS
_LOW = (1 << 31) - 1
_GOLDEN = 0.6180339887498949


class Touches(NamedTuple):
    """Successive operations.

    Attributes:
        row: int64, the row of the trace that each touches; -1: it is idle.
        part: int64, which frame of the row's page.
        gap_ps: int64, guest time before it.
        idle_ns: int64, how long it does nothing.
    """

    row: _Ints
    part: _Ints
    gap_ps: _Ints
    idle_ns: _Ints


class Timetable:
    """One lap of a trace, as often as it is run.

    Attributes:
        n_ops: operations of a lap.
    """

    def __init__(self, windows: WindowTable, duration_ns: int, parts: int, key: int) -> None:
        """Plan a lap.

        Args:
            windows: those with rows.
            duration_ns: of a lap.
            parts: frames of a page.
            key: of the random sequence that the shifts are drawn from.
        """
        self._key, self._parts = key, parts
        self._first_row = windows.first_row
        self._touches = windows.rows * parts
        length_ps = (windows.end_ns - windows.start_ns) * PS_PER_NS
        period_ps = length_ps // np.maximum(1, self._touches)
        idles = np.where(period_ps > _MOST_GAP_NS * PS_PER_NS, period_ps // _IDLE_PS, 0)
        self._idles, self._gap_ps = idles, period_ps - idles * _IDLE_PS
        self._stride = _strides(self._touches)
        self._inverse: _Ints | None = None
        # Behind the last touch of a window until the next one begins, and until the lap ends.
        ends_ps = windows.start_ns * PS_PER_NS + period_ps * self._touches
        begins_ps = np.append(windows.start_ns, duration_ns) * PS_PER_NS
        before_ps = begins_ps - np.concatenate((np.zeros(1, np.int64), ends_ps))
        wait_ns = before_ps // PS_PER_NS
        self._waits = -(-wait_ns // MAX_IDLE_NS)
        self._last_wait_ns = wait_ns - np.maximum(0, self._waits - 1) * MAX_IDLE_NS
        self._left_ps = before_ps - wait_ns * PS_PER_NS
        ops = self._waits + np.append(self._touches * (idles + 1), 0)
        self._starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(ops)))
        self.n_ops = int(self._starts[-1])

    def at(self, position: int, count: int) -> Touches:
        """What the operations from a position on are.

        Args:
            position: operations of all laps before the first one.
            count: how many.
        """
        number = position + np.arange(count, dtype=np.int64)
        lap, op = number // self.n_ops, number % self.n_ops
        window = np.searchsorted(self._starts, op, side="right") - 1
        nth = op - self._starts[window]
        waits = self._waits[window]
        touch, phase = _divmod(nth - waits, np.append(self._idles, 0)[window] + 1)
        waiting = nth < waits
        touching = ~waiting & (phase == np.append(self._idles, 0)[window])
        row, part = self._rows(window, lap, touch, touching)
        gap = np.where(touching, np.append(self._gap_ps, 0)[window], 0)
        gap += np.where(touching & (touch == 0), self._left_ps[window], 0)
        last = waiting & (nth == waits - 1)
        idle_ns = np.where(last, self._last_wait_ns[window], MAX_IDLE_NS)
        return Touches(row, part, gap, np.where(touching, 0, idle_ns))

    def order(self, position: _Ints, row: _Ints) -> _Ints:
        """Whether other rows are touched earlier or later than operations are.

        Args:
            position: of operations that touch.
            row: for each of them another row; the same frame of its page is meant.

        Returns:
            int64: -1, earlier in the same window; 1, later; 0, the row is of another window.
        """
        lap, op = position // self.n_ops, position % self.n_ops
        window = np.searchsorted(self._starts, op, side="right") - 1
        size = self._touches[window]
        touch = (op - self._starts[window] - self._waits[window]) // (self._idles[window] + 1)
        shift = self._shifts(lap * len(self._touches) + window)
        part = (shift + touch * self._stride[window]) % size % self._parts
        nth = (row - self._first_row[window]) * self._parts + part
        inside = (nth >= 0) & (nth < size)
        when = (nth - shift) % size * self._inverses()[window] % size
        return np.where(inside, np.sign(when - touch), 0)

    def _inverses(self) -> _Ints:
        """For each window the number that undoes its stride."""
        if self._inverse is None:
            pairs = zip(self._stride.tolist(), self._touches.tolist(), strict=True)
            found = [pow(stride, -1, size) if size > 1 else 0 for stride, size in pairs]
            self._inverse = np.array(found, np.int64)
        return self._inverse

    def _rows(
        self, window: _Ints, lap: _Ints, touch: _Ints, touching: npt.NDArray[np.bool_]
    ) -> tuple[_Ints, _Ints]:
        """The rows of the touches among some operations, and which frame of their pages."""
        row, part = np.full(len(window), -1, np.int64), np.zeros(len(window), np.int64)
        at = window[touching]
        size = self._touches[at]
        shift = self._shifts(lap[touching] * len(self._touches) + at) % np.maximum(1, size)
        which = (shift + touch[touching] * self._stride[at]) % np.maximum(1, size)
        row[touching], part[touching] = (
            self._first_row[at] + which // self._parts,
            (which % self._parts),
        )
        return row, part

    def _shifts(self, serial: _Ints) -> _Ints:
        """A random number from 0 for each window of each lap, by its serial number."""
        draws = np.empty(len(serial), np.int64)
        fill_draws_at(self._key, serial, draws)
        return draws & _LOW


def _divmod(values: _Ints, by: _Ints) -> tuple[_Ints, _Ints]:
    return values // by, values % by


def _strides(sizes: _Ints) -> _Ints:
    """For each number of touches one near 0.618 of it without a common factor; 1 for 0 and 1."""
    strides = np.maximum(1, (sizes * _GOLDEN).astype(np.int64))
    while (shared := np.gcd(strides, np.maximum(1, sizes)) > 1).any():
        strides[shared] += 1
    return strides
