"""Rows of a trace as operations of a guest, compiled.

A row stands for all accesses of one kind to one page within a window. Its first access
becomes one operation at the instruction where it happened; the others cost the time that
their instructions took, which is in the gap before the next row. Lackey records no data, so
what is stored is drawn, and some stores leave what stood there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.randomness import below, draw_at, high, low, more
from paging_core.workloads.records import KIND_SHIFT, VALUE, WORDS_SHIFT, Rows


class Columns(NamedTuple):
    """Rows of a trace by column; `paging_core.traces.schema` says what they mean.

    Attributes:
        instruction: int64.
        page: int64.
        accesses: int32.
        write: uint8.
    """

    instruction: npt.NDArray[np.int64]
    page: npt.NDArray[np.int64]
    accesses: npt.NDArray[np.int32]
    write: npt.NDArray[np.uint8]


class Pace(NamedTuple):
    """What all operations of a replay have in common.

    Attributes:
        key: of the random sequence that data is drawn from.
        silent_units: stores that change nothing, in parts of randomness.UNIT.
        ps_per_instruction: guest time that an instruction takes, picoseconds.
    """

    key: int
    silent_units: int
    ps_per_instruction: int


@kernel
def fill_replayed(
    columns: Columns, first: int, before: int, position: int, pace: Pace, rows: Rows
) -> None:
    """Operations of successive rows of the trace.

    Args:
        columns: of one row group.
        first: the row of it that the first operation is made of.
        before: the instruction that the row before that one happened at.
        position: of the first operation in the workload; decides what data is drawn.
        pace: see `Pace`.
        rows: the operations to fill, not more than rows are left.
    """
    for i in range(rows.shape[0]):
        row = first + i
        instruction = columns.instruction[row]
        gap_ps = (instruction - before) * pace.ps_per_instruction
        before = instruction
        draw = draw_at(pace.key, position + i)
        value = more(draw, VALUE)
        write = int(columns.write[row])
        silent = 1 if low(value) < pace.silent_units else 0
        words = min(int(columns.accesses[row]), WORDS_PER_FRAME)
        word = below(high(draw), WORDS_PER_FRAME + 1 - words)
        rows[i, 0] = (columns.page[row] << FRAME_SHIFT) + (word << 3)
        rows[i, 1] = np.int64(value)
        # READ, WRITE, REWRITE are 0, 1, 2.
        rows[i, 2] = gap_ps | words << WORDS_SHIFT | (write + write * silent) << KIND_SHIFT
