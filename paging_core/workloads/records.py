"""Writing operations as three words each, which is what an OP_DTYPE record is in memory.

    word 0   address
    word 1   value
    word 2   gap_ps, words << 32, kind << 48 (little-endian, as every x86-64 guest)

Three stores of 8 bytes fill a record several times faster than one store per field.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import Ops
from paging_core.workloads.randomness import below, high, low, more

Rows = npt.NDArray[np.int64]
"""Operations as words, int64, shape (n, 3)."""

BASE = 1 << 32
"""Where a generator's working set begins in the guest's address space."""
KIND_SHIFT = 48
WORDS_SHIFT = 32
VALUE = 0
"""Which `more` bits of a draw are the value that is stored."""
CHOICE = 1
"""Which `more` bits of a draw choose between regions or columns."""


class Shape(NamedTuple):
    """What all accesses of a workload have in common.

    Attributes:
        key: of its random sequence.
        write_units: accesses that write, in parts of UNIT.
        silent_units: writes that store what stands there already, in parts of UNIT.
        words: 8-byte words per write.
        tail: third word of a record, without its kind.
    """

    key: int
    write_units: int
    silent_units: int
    words: int
    tail: int


def tail_of(gap_ps: int, words: int = 0, kind: int = 0) -> int:
    """The third word of a record."""
    return gap_ps | words << WORDS_SHIFT | kind << KIND_SHIFT


def as_rows(ops: Ops) -> Rows:
    """The same operations as words; writing to them writes to `ops`."""
    return cast("Rows", ops.view(np.int64).reshape(-1, 3))


@kernel
def put_access(
    rows: Rows, i: int, address: int, draw: np.uint64, value: np.uint64, shape: Shape
) -> None:
    """One access: `draw` says whether it writes, `value` what, and whether it is silent."""
    writes = 1 if low(draw) < shape.write_units else 0
    silent = 1 if low(value) < shape.silent_units else 0
    rows[i, 0] = address
    rows[i, 1] = np.int64(value)
    # READ, WRITE, REWRITE are 0, 1, 2.
    rows[i, 2] = shape.tail | ((writes + writes * silent) << KIND_SHIFT)


@kernel
def put_page_access(rows: Rows, i: int, page: int, draw: np.uint64, shape: Shape) -> None:
    """One access somewhere within a page of the working set."""
    value = more(draw, VALUE)
    word = below(high(value), WORDS_PER_FRAME + 1 - shape.words)
    put_access(rows, i, BASE + (page << FRAME_SHIFT) + (word << 3), draw, value, shape)


@kernel
def put_system(rows: Rows, i: int, kind: int, address: int, value: int) -> None:
    """One operation that is not an access, and takes no time by itself."""
    rows[i, 0] = address
    rows[i, 1] = value
    rows[i, 2] = kind << KIND_SHIFT
