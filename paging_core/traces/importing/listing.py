"""Importing a list of touched pages: CSV, or Parquet with the same columns.

    column    CSV                                Parquet
    time_ns   nanoseconds, decimal, ascending    any integer type
    page      page number, decimal or 0x…        any integer type
    written   1, true, w, write, written: it     bool
              was; 0, false, r, read: it was
              read

A CSV begins with the line ``time_ns,page,written``. The first row's time is the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from paging_core.errors import BadTrace
from paging_core.traces.importing.lines import lines_of, refused
from paging_core.traces.importing.windows import Windows
from paging_core.traces.opened import about, check_kind
from paging_core.traces.written.schema import MOST_NS, Description, Recording
from paging_core.traces.written.writer import WrittenPagesWriter

HEADER = b"time_ns,page,written"
COLUMNS = ("time_ns", "page", "written")
_WORDS = {b"1": True, b"true": True, b"w": True, b"write": True, b"written": True,
          b"0": False, b"false": False, b"r": False, b"read": False}  # fmt: skip
_CHUNK_ROWS = 1 << 16
_MOST_DIGITS = 20
_MOST_TIME = (1 << 63) - 1


class _Rows(NamedTuple):
    """Successive rows: int64, uint64, bool; and the number of the first one, for errors."""

    time_ns: npt.NDArray[np.int64]
    page: npt.NDArray[np.uint64]
    written: npt.NDArray[np.bool_]
    first: int


def import_csv(
    stream: BinaryIO,
    out: Path,
    recording: Recording,
    window_ns: int,
    *,
    name: str = "the input",
    progress: Callable[[int], None] = lambda _: None,
) -> Description:
    """Turn a CSV of touched pages into a trace; `out` appears whole or not at all.

    Args:
        stream: the text, of any size.
        out: the Parquet file to write; one that is there is replaced.
        recording: what was recorded.
        window_ns: touches are collapsed within windows of this length.
        name: of the stream, for error messages.
        progress: told how many more bytes were read.

    Raises:
        BadTrace: a line that cannot be, named by its number; or `out` cannot be written.
    """
    return _imported(_of_csv(stream, name, recording.pages_top, progress), out, recording,
                     window_ns, name, "line")  # fmt: skip


def import_parquet(path: str, out: Path, recording: Recording, window_ns: int) -> Description:
    """Turn a Parquet file of touched pages into a trace; otherwise as `import_csv`.

    Raises:
        BadTrace: a row that cannot be, named by its number from 0; no such columns, or no Parquet.
    """
    return _imported(_of_parquet(path, recording.pages_top), out, recording, window_ns, path, "row")


def _imported(
    parts: Iterator[_Rows], out: Path, recording: Recording, window_ns: int, name: str, unit: str
) -> Description:
    began = before = None
    with WrittenPagesWriter(out) as writer:
        windows = Windows(writer, window_ns)
        for rows in parts:
            began = int(rows.time_ns[0]) if began is None else began
            _check_time(rows, began, before, f"{name}: {unit}")
            before = int(rows.time_ns[-1])
            windows.touch(rows.time_ns - began, rows.page, rows.written)
        if began is None:
            raise BadTrace(f"{name} holds no touched page; a row is: {HEADER.decode()}")
        return windows.finish(recording)


def _check_time(rows: _Rows, began: int, before: int | None, where: str) -> None:
    time = rows.time_ns if before is None else np.concatenate(([before], rows.time_ns))
    falls = np.flatnonzero(time[1:] < time[:-1])
    if len(falls):
        number = rows.first + int(falls[0]) + (before is None)
        raise BadTrace(f"{where} {number} is earlier than the one before it; sort it by time")
    late = rows.time_ns - began > MOST_NS // 2
    if late.any():
        raise BadTrace(
            f"{where} {rows.first + int(np.argmax(late))} is 52 days or more behind the first; "
            "times are in nanoseconds"
        )


def _of_csv(
    stream: BinaryIO, name: str, top: int, progress: Callable[[int], None]
) -> Iterator[_Rows]:
    times: list[int] = []
    pages: list[int] = []
    written: list[bool] = []
    number = 0
    for number, line in lines_of(stream, name, progress):
        if number == 1:
            if line.strip() != HEADER:
                raise refused(name, 1, line, f"is not the header {HEADER.decode()}")
            continue
        cells = line.split(b",")
        if len(cells) != len(COLUMNS):
            raise refused(name, number, line, f"has not the {len(COLUMNS)} values of the header")
        time, page = _whole(cells[0], 10), _whole(cells[1], 16 if b"x" in cells[1] else 10)
        wrote = _WORDS.get(cells[2].strip().lower())
        if not 0 <= time < 1 << 63:
            raise refused(name, number, line, "has no time in whole nanoseconds")
        if not 0 <= page < top:
            raise refused(name, number, line, f"has no page number below {top:#x}")
        if wrote is None:
            raise refused(name, number, line, "says neither written (1) nor read (0)")
        times.append(time)
        pages.append(page)
        written.append(wrote)
        if len(times) == _CHUNK_ROWS:
            yield _rows(times, pages, written, number)
            times, pages, written = [], [], []
    if times:
        yield _rows(times, pages, written, number)


def _rows(times: list[int], pages: list[int], written: list[bool], last: int) -> _Rows:
    return _Rows(
        np.array(times, np.int64),
        np.array(pages, np.uint64),
        np.array(written, np.bool_),
        last - len(times) + 1,
    )


def _whole(cell: bytes, base: int) -> int:
    """A number of digits alone; -1 for anything else."""
    digits = cell.strip()
    if base == 16 and digits[:2].lower() == b"0x":
        digits = digits[2:]
    if not digits.isalnum() or len(digits) > _MOST_DIGITS:
        return -1
    try:
        return int(digits, base)
    except ValueError:
        return -1


def _of_parquet(path: str, top: int) -> Iterator[_Rows]:
    with about(path):
        check_kind(Path(path))
    with about(path), pa.OSFile(path) as file:
        parquet = pq.ParquetFile(file)
        _check_columns(parquet)
        first = 0
        batches = parquet.iter_batches(_CHUNK_ROWS, columns=list(COLUMNS), use_threads=False)
        for batch in batches:
            rows = _of_batch(batch, first, top)
            first += len(rows.time_ns)
            if len(rows.time_ns):
                yield rows


def _check_columns(parquet: pq.ParquetFile) -> None:
    found = {field.name: field.type for field in parquet.schema_arrow}
    for name in COLUMNS:
        kind = found.get(name)
        good = kind is not None and (
            pa.types.is_boolean(kind) if name == "written" else pa.types.is_integer(kind)
        )
        if not good:
            wanted = "bool" if name == "written" else "an integer type"
            raise BadTrace(f"it has no column {name!r} of {wanted}; it must have {COLUMNS}")


def _of_batch(batch: pa.RecordBatch, first: int, top: int) -> _Rows:
    for name in COLUMNS:
        column = batch.column(name)
        if column.null_count:
            at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise BadTrace(f"row {first + at}: its {name} is missing")
    time = batch.column("time_ns").to_numpy(zero_copy_only=False)
    page = batch.column("page").to_numpy(zero_copy_only=False)
    written = batch.column("written").to_numpy(zero_copy_only=False)
    bad = (page < 0) | (page >= top) | (time < 0) | (time > _MOST_TIME)
    if bad.any():
        raise BadTrace(f"row {first + int(np.argmax(bad))}: its time or its page cannot be")
    return _Rows(time.astype(np.int64), page.astype(np.uint64), written.astype(np.bool_), first)
