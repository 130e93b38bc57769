"""Where the accesses of each workload go: one kernel each, from a position to addresses.

A kernel takes its parameters first and then `first`, the position of the first row, and
`rows` to fill, so that `functools.partial` makes a workload of it.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.randomness import below, draw_at, high, low, more
from paging_core.workloads.records import (
    BASE,
    CHOICE,
    VALUE,
    Rows,
    Shape,
    put_access,
    put_page_access,
)


@kernel
def fill_sequential(shape: Shape, pages: int, first: int, rows: Rows) -> None:
    """Straight through the working set, `words` at a time, and again from its start."""
    per_page = WORDS_PER_FRAME // shape.words
    slot = first % per_page
    page = first // per_page % pages
    for i in range(rows.shape[0]):
        address = BASE + (page << FRAME_SHIFT) + ((slot * shape.words) << 3)
        draw = draw_at(shape.key, first + i)
        put_access(rows, i, address, draw, more(draw, VALUE), shape)
        slot += 1
        if slot == per_page:
            slot = 0
            page = page + 1 if page + 1 < pages else 0


@kernel
def _in_frame(offset: int, words: int) -> int:
    """The nearest offset at or before this one from which `words` stay within the frame."""
    last = (WORDS_PER_FRAME - words) << 3
    in_frame = offset & 4095
    return offset - max(0, in_frame - last)


@kernel
def fill_strided(shape: Shape, size_bytes: int, stride_bytes: int, first: int, rows: Rows) -> None:
    """Every `stride_bytes`; each lap begins `words` further on within the stride."""
    per_lap = -(-size_bytes // stride_bytes)
    shifts = max(1, stride_bytes // (shape.words << 3))
    at = first % per_lap
    lap = first // per_lap
    shift = lap % shifts * (shape.words << 3)
    for i in range(rows.shape[0]):
        offset = at * stride_bytes + shift
        offset = _in_frame(offset if offset < size_bytes else at * stride_bytes, shape.words)
        draw = draw_at(shape.key, first + i)
        put_access(rows, i, BASE + offset, draw, more(draw, VALUE), shape)
        at += 1
        if at == per_lap:
            at = 0
            lap += 1
            shift = lap % shifts * (shape.words << 3)


@kernel
def fill_uniform(shape: Shape, pages: int, first: int, rows: Rows) -> None:
    """Every page as likely as every other."""
    for i in range(rows.shape[0]):
        draw = draw_at(shape.key, first + i)
        put_page_access(rows, i, below(high(draw), pages), draw, shape)


@kernel
def fill_hotcold(
    shape: Shape, pages: int, hot_pages: int, hot_units: int, first: int, rows: Rows
) -> None:
    """A hot start of the working set, and a cold rest."""
    for i in range(rows.shape[0]):
        draw = draw_at(shape.key, first + i)
        # Arithmetic and no branch: which way it goes is random, so no processor foresees it.
        cold = 1 if low(more(draw, CHOICE)) >= hot_units else 0
        span = hot_pages + cold * (pages - 2 * hot_pages)
        page = cold * hot_pages + below(high(draw), span)
        put_page_access(rows, i, page, draw, shape)


@kernel
def fill_phased(
    shape: Shape, pages: int, phases: int, phase_ops: int, first: int, rows: Rows
) -> None:
    """One part of the working set after the other, `phase_ops` accesses each."""
    i = 0
    while i < rows.shape[0]:
        phase = (first + i) // phase_ops
        end = min(rows.shape[0], (phase + 1) * phase_ops - first)
        start_page = phase % phases * pages // phases
        span = (phase % phases + 1) * pages // phases - start_page
        for j in range(i, end):
            draw = draw_at(shape.key, first + j)
            put_page_access(rows, j, start_page + below(high(draw), span), draw, shape)
        i = end


@kernel
def fill_read_mostly(shape: Shape, pages: int, written_pages: int, first: int, rows: Rows) -> None:
    """Reads anywhere, writes in the first `written_pages` only."""
    for i in range(rows.shape[0]):
        draw = draw_at(shape.key, first + i)
        span = written_pages if low(draw) < shape.write_units else pages
        put_page_access(rows, i, below(high(draw), span), draw, shape)
