"""Reading a trace of written pages: a row group at a time, or window by window.

Whatever can be wrong with the file is a `BadTrace` of one line that names it, and the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paging_core.errors import BadTrace
from paging_core.traces.opened import DAMAGED, OpenedParquet, about
from paging_core.traces.written.schema import (
    METADATA_KEY,
    NOT_MEASURED,
    SCHEMA,
    Description,
    Recording,
)

MOST_GROUP_ROWS = 1 << 22
"""Rows of a group that a reader takes: a few bytes of Parquet can claim any number."""


class WrittenRows(NamedTuple):
    """Successive rows by column; `paging_core.traces.written.schema` says what they mean.

    Attributes:
        start_ns, end_ns: int64, of the row's window.
        page: uint64.
        written: bool.
        changed: int8: CHANGED (1), SAME (0) or NOT_MEASURED (-1).
    """

    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]
    page: npt.NDArray[np.uint64]
    written: npt.NDArray[np.bool_]
    changed: npt.NDArray[np.int8]

    def part(self, first: int, end: int | None = None) -> WrittenRows:
        """Rows `first` to `end`; to the last one when None."""
        return WrittenRows._make(column[first:end] for column in self)


class Window(NamedTuple):
    """A window in which something was written or read.

    Attributes:
        start_ns, end_ns: since the recording began.
        written: uint64, ascending: pages that were written.
        changed: int8, as long: CHANGED (1), SAME (0) or NOT_MEASURED (-1).
        read: uint64, ascending: pages that were read.
    """

    start_ns: int
    end_ns: int
    written: npt.NDArray[np.uint64]
    changed: npt.NDArray[np.int8]
    read: npt.NDArray[np.uint64]


class WrittenPagesFile:
    """An open trace. It stays the file that was opened, even if another takes its name.

    Attributes:
        path: as it was given.
        size_bytes: of the file.
        digest: XXH3-64 of the file; the same trace has the same one everywhere.
        description: the recording and its extent.
        starts: the row that each group begins with, and the number of rows at the end; int64.
    """

    def __init__(self, path: str) -> None:
        """Open a trace and read what it says about itself; its rows are checked as they are read.

        Raises:
            BadTrace: it cannot be read, or is no trace of written pages of this version.
        """
        self.path = path
        with about(path):
            self._file = opened = OpenedParquet(path)
            try:
                self.size_bytes, self.digest = opened.size_bytes, opened.digest
                self.description = _description(opened)
                groups = opened.group_rows(MOST_GROUP_ROWS)
            except BaseException:
                opened.close()
                raise
        self.starts = np.cumsum([0, *groups], dtype=np.int64)

    @property
    def recording(self) -> Recording:
        """What was recorded."""
        return self.description.recording

    @property
    def n_rows(self) -> int:
        """Rows of all groups; 0 of a recording in which nothing was written."""
        return int(self.starts[-1])

    @property
    def n_groups(self) -> int:
        """Row groups."""
        return len(self.starts) - 1

    def close(self) -> None:
        """Close the file; no row can be read any more."""
        self._file.close()

    def groups(self) -> Iterator[WrittenRows]:
        """All rows, a row group at a time, checked against those before them.

        Raises:
            BadTrace: rows that are damaged or cannot be; names the first one from 0.
        """
        before: WrittenRows | None = None
        for number in range(self.n_groups):
            rows = self.group(number, before)
            yield rows
            before = rows.part(-1)

    def group(self, number: int, before: WrittenRows | None = None) -> WrittenRows:
        """The rows of one group.

        Args:
            number: of the row group, from 0.
            before: the row before its first one, to check them against; None leaves that out.

        Raises:
            BadTrace: as `groups`.
        """
        with about(self.path):
            first = int(self.starts[number])
            rows = _rows(self._file.parquet.read_row_group(number, use_threads=False), first)
            if len(rows.page) != self.starts[number + 1] - first:
                raise BadTrace(f"row group {number} is not as long as it says; {DAMAGED}")
            _check_values(rows, self.description, first)
            if before is None:
                _check_order(rows, first)
            else:
                _check_order(_joined([before, rows]), first - 1)
        return rows

    def windows(self) -> Iterator[Window]:
        """All windows that have rows, one at a time; raises as `groups`."""
        begun: list[WrittenRows] = []
        for rows in self.groups():
            cuts = (np.flatnonzero(np.diff(rows.start_ns)) + 1).tolist()
            for first, end in pairwise([0, *cuts, len(rows.page)]):
                part = rows.part(first, end)
                if begun and begun[-1].start_ns[0] != part.start_ns[0]:
                    yield _window(begun)
                    begun = []
                begun.append(part)
        if begun:
            yield _window(begun)


def _description(opened: OpenedParquet) -> Description:
    described = opened.described(METADATA_KEY)
    if described is None:
        raise BadTrace(
            "it is a Parquet file, but no trace of written pages; make one with: pageferry trace "
            "import"
        )
    description = Description.from_metadata(described)
    found = {field.name: field.type for field in opened.parquet.schema_arrow}
    for field in SCHEMA:
        if found.get(field.name) != field.type:
            raise BadTrace(f"it has no column {field.name!r} of type {field.type}; import it again")
    return description


def _rows(table: pa.Table, first: int) -> WrittenRows:
    columns = {field.name: table.column(field.name).combine_chunks() for field in SCHEMA}
    for name, column in columns.items():
        if name != "changed" and column.null_count:
            at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise BadTrace(f"row {first + at}: its {name} is missing; import it again")
    changed = columns["changed"].cast(pa.int8()).fill_null(NOT_MEASURED)
    start, end, page, written = (
        _numpy(columns[name], dtype)
        for name, dtype in (
            ("window_start_ns", np.int64),
            ("window_end_ns", np.int64),
            ("page", np.uint64),
            ("written", np.bool_),
        )
    )
    return WrittenRows(start, end, page, written, _numpy(changed, np.int8))


def _numpy(column: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False), dtype)


def _check_values(rows: WrittenRows, description: Description, first: int) -> None:
    """Each row by itself."""
    bad_time = (rows.start_ns < 0) | (rows.end_ns <= rows.start_ns)
    bad_time |= rows.end_ns > description.duration_ns
    _refuse(bad_time, first, "its window is empty, or not within the recording")
    bad_page = rows.page >= description.recording.pages_top
    _refuse(bad_page, first, "its page is beyond all addresses")
    _refuse(~rows.written & (rows.changed != NOT_MEASURED), first, "it is a read that changed")


def _check_order(rows: WrittenRows, first: int) -> None:
    """Each row after the one before it."""
    start, end, page, written = rows.start_ns, rows.end_ns, rows.page, rows.written
    same = (start[1:] == start[:-1]) & (end[1:] == end[:-1])
    overlaps = ~same & (start[1:] < end[:-1])
    _refuse(overlaps, first + 1, "its window overlaps the one before it")
    repeats = (page[1:] == page[:-1]) & ~(written[1:] & ~written[:-1])
    _refuse(same & repeats, first + 1, "it says the same of its page as the row before it")
    _refuse(same & (page[1:] < page[:-1]), first + 1, "its page is below the row's before it")


def _refuse(bad: npt.NDArray[np.bool_], first: int, why: str) -> None:
    if bad.any():
        raise BadTrace(f"row {first + int(np.argmax(bad))}: {why}; record or import it again")


def _joined(parts: list[WrittenRows]) -> WrittenRows:
    return WrittenRows._make(np.concatenate(column) for column in zip(*parts, strict=True))


def _window(parts: list[WrittenRows]) -> Window:
    rows = _joined(parts)
    return Window(
        int(rows.start_ns[0]),
        int(rows.end_ns[0]),
        rows.page[rows.written],
        rows.changed[rows.written],
        rows.page[~rows.written],
    )
