"""A program that uses a file: through a shared mapping, a private one, and read() and write().

A cycle is a write-back of the file (FILE_SYNC), the private mapping made anew, which drops its
copies, and then `accesses` accesses. Each goes to a page at random: of the file through the shared
mapping, of the file through the private one, of the file by a call, or of the program's own memory.
A read() stores what it read to the start of that memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paging_core.compiled import kernel
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import (
    FILE_READ,
    FILE_REWRITE,
    FILE_SYNC,
    FILE_WRITE,
    MMAP_PRIVATE,
    MMAP_SHARED,
    OP_DTYPE,
    Ops,
)
from paging_core.workloads.randomness import below, draw_at, high, low, more
from paging_core.workloads.records import (
    BASE,
    CHOICE,
    KIND_SHIFT,
    VALUE,
    Rows,
    Shape,
    put_page_access,
    put_system,
)

SHARED_PAGE = 1 << (40 - FRAME_SHIFT)
PRIVATE_PAGE = 2 << (40 - FRAME_SHIFT)
"""First page of the two mappings, counted from BASE."""
SYSTEM_STEPS = 2
"""Steps of a cycle that are not accesses."""


class Files(NamedTuple):
    """Parameters of the cycle.

    Attributes:
        pages: of the program's own memory.
        file_pages: of the file.
        accesses: in a cycle.
        shared, private, calls: accesses that go there, or to one before it, in parts of UNIT.
    """

    pages: int
    file_pages: int
    accesses: int
    shared: int
    private: int
    calls: int


@kernel
def _put_call(rows: Rows, i: int, page: int, draw: np.uint64, shape: Shape) -> None:
    value = more(draw, VALUE)
    word = below(high(value), WORDS_PER_FRAME + 1 - shape.words)
    writes = low(draw) < shape.write_units
    kind = FILE_READ
    if writes:
        kind = FILE_REWRITE if low(value) < shape.silent_units else FILE_WRITE
    rows[i, 0] = (page << FRAME_SHIFT) + (word << 3)
    rows[i, 1] = np.int64(value) if writes else BASE
    rows[i, 2] = shape.tail | (kind << KIND_SHIFT)


@kernel
def fill_files(shape: Shape, files: Files, first: int, rows: Rows) -> None:
    """The steps of the cycles, from position `first` on."""
    per_cycle = files.accesses + SYSTEM_STEPS
    for i in range(rows.shape[0]):
        step = (first + i) % per_cycle
        if step == 0:
            put_system(rows, i, FILE_SYNC, 0, files.file_pages)
            continue
        if step == 1:
            start = BASE + (PRIVATE_PAGE << FRAME_SHIFT)
            put_system(rows, i, MMAP_PRIVATE, start, files.file_pages)
            continue
        draw = draw_at(shape.key, first + i)
        choice = low(more(draw, CHOICE))
        page = below(high(draw), files.file_pages)
        if choice < files.shared:
            put_page_access(rows, i, SHARED_PAGE + page, draw, shape)
        elif choice < files.private:
            put_page_access(rows, i, PRIVATE_PAGE + page, draw, shape)
        elif choice < files.calls:
            _put_call(rows, i, page, draw, shape)
        else:
            put_page_access(rows, i, below(high(draw), files.pages), draw, shape)


def file_setup(file_pages: int, written: Ops) -> Ops:
    """Operations that map the file twice.

    Args:
        file_pages: of the file.
        written: write() of its first content.
    """
    ops = np.zeros(2, OP_DTYPE)
    ops["address"] = [BASE + (page << FRAME_SHIFT) for page in (SHARED_PAGE, PRIVATE_PAGE)]
    ops["value"] = file_pages
    ops["kind"] = [MMAP_SHARED, MMAP_PRIVATE]
    return np.concatenate([written, ops])
