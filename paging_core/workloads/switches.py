"""Processes that take turns: each with its own tables, its own CR3 and its own working set.

Turn t runs process t mod `processes`: a SWITCH, then `accesses` accesses anywhere in its part of
the address space. Parts lie apart, so that no two processes share a table. Process 0 runs first and
maps nothing for the others: they fork from it while it is empty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paging_core.compiled import kernel
from paging_core.units import FRAME_SHIFT
from paging_core.workloads.ops import FORK, OP_DTYPE, SWITCH, Ops
from paging_core.workloads.randomness import below, draw_at, high
from paging_core.workloads.records import BASE, Rows, Shape, put_page_access, put_system

PROCESS_PAGES = 1 << (39 - FRAME_SHIFT)
"""From one process's part of the address space to the next: what one L4 entry maps."""


class Turns(NamedTuple):
    """Parameters of the turns.

    Attributes:
        pages: of each process.
        processes: that take turns; at least 2.
        accesses: in a turn.
    """

    pages: int
    processes: int
    accesses: int


@kernel
def fill_switches(shape: Shape, turns: Turns, first: int, rows: Rows) -> None:
    """The turns from position `first` on."""
    per_turn = turns.accesses + 1
    for i in range(rows.shape[0]):
        turn = (first + i) // per_turn
        process = turn % turns.processes
        if (first + i) == turn * per_turn:
            put_system(rows, i, SWITCH, process, 0)
            continue
        draw = draw_at(shape.key, first + i)
        page = process * PROCESS_PAGES + below(high(draw), turns.pages)
        put_page_access(rows, i, page, draw, shape)


def setup_of(parts: list[Ops]) -> Ops:
    """Operations that fork the processes and let each map its own part.

    Args:
        parts: what each process maps and writes, that of process 0 first.
    """
    others = range(1, len(parts))
    setup = [_system(FORK, process) for process in others]
    for process in [*others, 0]:
        setup += [_system(SWITCH, process), parts[process]]
    return np.concatenate(setup)


def first_page_of(process: int) -> int:
    """Where a process's part begins."""
    return (BASE >> FRAME_SHIFT) + process * PROCESS_PAGES


def _system(kind: int, process: int) -> Ops:
    ops = np.zeros(1, OP_DTYPE)
    ops["kind"], ops["address"] = kind, process
    return ops
