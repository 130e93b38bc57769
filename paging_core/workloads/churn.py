"""Page-table churn: a parent that keeps forking children, which map, write, unmap and end.

Every cycle is the same list of steps, so a position is a cycle and a step in it. Process 0
is the parent; the child of cycle c lives in slot 1 + c mod `children` and ends `children`
cycles later, so that many are alive at a time. `n` accesses per cycle, in four parts:

    EXIT the old child of this slot · FORK · SWITCH to the child · MMAP its region
    part 1: the child, in what it inherited (copy-on-write) and in all of its region
    MUNMAP the first half of the region
    part 2: the child, in what it inherited and in the second half
    SWITCH to the child of the cycle before
    part 3: that child, likewise
    SWITCH to the parent
    part 4: the parent, in its working set (copy-on-write from its side)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paging_core.compiled import kernel
from paging_core.units import FRAME_SHIFT
from paging_core.workloads.ops import EXIT, FORK, IDLE, MMAP, MUNMAP, SWITCH
from paging_core.workloads.randomness import below, draw_at, high, low, more
from paging_core.workloads.records import (
    BASE,
    CHOICE,
    Rows,
    Shape,
    put_page_access,
    put_system,
)

REGION_BASE = BASE + (1 << 40)
_REGION_PAGE = 1 << (40 - FRAME_SHIFT)
"""First page of the children's regions, counted from BASE."""
SYSTEM_STEPS = 7
"""Steps of a cycle that are not accesses."""
_START = 4
"""Steps before part 1."""
_HALF = 1 << 31


class Churn(NamedTuple):
    """Parameters of the cycle.

    Attributes:
        pages: of the parent's working set.
        region_pages: that each child maps for itself; at least 2.
        accesses: per cycle.
        children: alive at a time.
    """

    pages: int
    region_pages: int
    accesses: int
    children: int


@kernel
def _slot(churn: Churn, cycle: int) -> int:
    return 1 + cycle % churn.children


@kernel
def _end_of_part(churn: Churn, part: int) -> int:
    """The step after the accesses of a part (1 to 4)."""
    return _START + part - 1 + churn.accesses * part // 4


@kernel
def _start_cycle(rows: Rows, i: int, step: int, cycle: int, churn: Churn) -> None:
    slot = _slot(churn, cycle)
    if step == 0 and cycle >= churn.children:
        put_system(rows, i, EXIT, slot, 0)
    elif step == 0:
        put_system(rows, i, IDLE, 0, 0)
    elif step == 1:
        put_system(rows, i, FORK, slot, 0)
    elif step == 2:
        put_system(rows, i, SWITCH, slot, 0)
    else:
        put_system(rows, i, MMAP, REGION_BASE, churn.region_pages)


@kernel
def _between_parts(rows: Rows, i: int, part: int, cycle: int, churn: Churn) -> None:
    """The step after a part's accesses."""
    if part == 1:
        put_system(rows, i, MUNMAP, REGION_BASE, churn.region_pages // 2)
    elif part == 2:
        put_system(rows, i, SWITCH, _slot(churn, max(0, cycle - 1)), 0)
    else:
        put_system(rows, i, SWITCH, 0, 0)


@kernel
def _page(part: int, draw: np.uint64, churn: Churn) -> int:
    """A page of the working set, or as often one of the region; the parent has no region."""
    if part == 4 or low(more(draw, CHOICE)) < _HALF:
        return below(high(draw), churn.pages)
    first = 0 if part == 1 else churn.region_pages // 2
    return _REGION_PAGE + first + below(high(draw), churn.region_pages - first)


@kernel
def fill_churn(shape: Shape, churn: Churn, first: int, rows: Rows) -> None:
    """The steps of the cycles, from position `first` on."""
    per_cycle = churn.accesses + SYSTEM_STEPS
    for i in range(rows.shape[0]):
        cycle = (first + i) // per_cycle
        step = (first + i) - cycle * per_cycle
        if step < _START:
            _start_cycle(rows, i, step, cycle, churn)
            continue
        part = 1
        while step > _end_of_part(churn, part):
            part += 1
        if part < 4 and step == _end_of_part(churn, part):
            _between_parts(rows, i, part, cycle, churn)
        else:
            draw = draw_at(shape.key, first + i)
            put_page_access(rows, i, _page(part, draw, churn), draw, shape)
