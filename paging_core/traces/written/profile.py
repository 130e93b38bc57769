"""What a trace of written pages holds: all of its pages and windows, read once, group by group.

Memory grows with the pages and the windows, not with the rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadTrace
from paging_core.traces.written.reader import WrittenPagesFile, WrittenRows
from paging_core.traces.written.schema import NOT_MEASURED, SAME

_Ints = npt.NDArray[np.int64]


class WindowTable(NamedTuple):
    """The windows that have rows.

    Attributes:
        start_ns, end_ns: int64, of each.
        first_row: int64, the row with which it begins.
        rows: int64, how many it has.
        written: int64, pages written in it.
    """

    start_ns: _Ints
    end_ns: _Ints
    first_row: _Ints
    rows: _Ints
    written: _Ints


class WrittenProfile(NamedTuple):
    """A trace of written pages as a whole.

    Attributes:
        windows: those with rows.
        pages: int64, ascending, each once: all pages that were written or read.
        windows_written: int64, in how many windows each of them was written.
        read_rows: rows that read.
        measured: written rows of which it is known whether they changed anything.
        same: those of them that changed nothing.
    """

    windows: WindowTable
    pages: _Ints
    windows_written: _Ints
    read_rows: int
    measured: int
    same: int

    @property
    def written_rows(self) -> int:
        """Rows that write: a page in a window."""
        return int(self.windows.written.sum())


def profile_of(trace: WrittenPagesFile) -> WrittenProfile:
    """Read all of a trace.

    Raises:
        BadTrace: a row is damaged or impossible, or there are more windows than it says.
    """
    pages, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    table = [np.zeros(0, np.int64)] * len(WindowTable._fields)
    reads = measured = same = 0
    for number, rows in enumerate(trace.groups()):
        pages, counts = _merged(pages, counts, rows)
        table = _longer(table, rows, int(trace.starts[number]))
        reads += int(np.count_nonzero(~rows.written))
        measured += int(np.count_nonzero(rows.changed != NOT_MEASURED))
        same += int(np.count_nonzero(rows.changed == SAME))
    if len(table[0]) > trace.description.windows:
        raise BadTrace(
            f"trace {trace.path}: it has more windows than the {trace.description.windows:,} that "
            "it says; record or import it again"
        )
    return WrittenProfile(WindowTable(*table), pages, counts, reads, measured, same)


def _merged(pages: _Ints, counts: _Ints, rows: WrittenRows) -> tuple[_Ints, _Ints]:
    """Pages so far, and in how many windows each was written; a page is written once in one."""
    found = rows.page.astype(np.int64)
    together = np.union1d(pages, found)
    merged = np.zeros(len(together), np.int64)
    merged[np.searchsorted(together, pages)] = counts
    merged += np.bincount(np.searchsorted(together, found[rows.written]), minlength=len(together))
    return together, merged


def _longer(table: list[_Ints], rows: WrittenRows, first_row: int) -> list[_Ints]:
    """The windows so far, and those of a row group; a window may go on in the next group."""
    begins = np.concatenate(([0], np.flatnonzero(np.diff(rows.start_ns)) + 1))
    new = [
        rows.start_ns[begins],
        rows.end_ns[begins],
        begins + first_row,
        np.diff(np.append(begins, len(rows.page))),
        np.add.reduceat(rows.written.astype(np.int64), begins),
    ]
    start, _, _, n_rows, written = table
    if len(start) and start[-1] == new[0][0]:
        n_rows[-1] += new[3][0]
        written[-1] += new[4][0]
        new = [column[1:] for column in new]
    return [np.concatenate((old, more)) for old, more in zip(table, new, strict=True)]
