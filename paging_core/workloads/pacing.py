"""From a rate of writes to the time between accesses, and to idle operations where it is long.

A record holds a gap of at most 4.29 ms. A longer one becomes `idles` IDLE operations before
every step, none longer than a millisecond, so that a guest still stops close to the moment
that it was told to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paging_core.units import PS_PER_NS
from paging_core.workloads.ops import IDLE
from paging_core.workloads.records import Rows, tail_of

MAX_GAP_PS = 2**32 - 1
MAX_IDLE_NS = 1_000_000
_PS_PER_S = 10**12

Fill = Callable[[int, Rows], None]
"""Fills rows from a position on."""


@dataclass(frozen=True)
class Pace:
    """The time between accesses.

    Attributes:
        gap_ps: within the access's own record.
        idles: IDLE operations before it.
        idle_ns: the length of each.
    """

    gap_ps: int
    idles: int = 0
    idle_ns: int = 0


def pace_of(write_rate: float, write_fraction: float) -> Pace:
    """The pace at which accesses, of which a fraction write, make that many writes a second."""
    period_ps = round(_PS_PER_S * write_fraction / write_rate)
    if period_ps <= MAX_GAP_PS:
        return Pace(period_ps)
    idles = -(-period_ps // (MAX_IDLE_NS * PS_PER_NS))
    idle_ns = period_ps // PS_PER_NS // idles
    return Pace(period_ps - idles * idle_ns * PS_PER_NS, idles, idle_ns)


def fill_paced(pace: Pace, fill: Fill, position: int, rows: Rows) -> None:
    """Fill rows with steps of `fill`, each preceded by the idle operations of its pace."""
    if not pace.idles:
        fill(position, rows)
        return
    per_step = pace.idles + 1
    step, phase = divmod(position, per_step)
    rows[:] = (0, pace.idle_ns, tail_of(0, kind=IDLE))
    at = slice(pace.idles - phase, None, per_step)
    steps = np.empty(rows[at].shape, np.int64)
    fill(step, steps)
    rows[at] = steps
