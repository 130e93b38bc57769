"""What a trace touches: every page of it, how it was used, and whether every row is sound.

Reads the whole trace once, one row group at a time; memory grows with the pages that the
program used, not with how often it used them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadTrace
from paging_core.traces.kernels.replay_ops import Columns
from paging_core.traces.reader import TraceFile
from paging_core.traces.schema import ColumnDigests

Pages = npt.NDArray[np.int64]
"""Page numbers, ascending, each once."""


class Profile(NamedTuple):
    """The pages of a trace.

    Attributes:
        pages: all of them.
        accesses: of each page, int64, reads and writes together.
        writes: of each page, int64.
        born_written: bool per page; the program's first access to it was a write, so nothing
            that stood there before mattered.
        written_rows: rows that write: first writes to a page within a window.
    """

    pages: Pages
    accesses: npt.NDArray[np.int64]
    writes: npt.NDArray[np.int64]
    born_written: npt.NDArray[np.bool_]
    written_rows: int


_NOTHING = Profile(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_), 0
)


def profile(trace: TraceFile) -> Profile:
    """Read all of a trace.

    Raises:
        BadTrace: a row group is damaged or impossible.
    """
    total, before, digests = _NOTHING, 0, ColumnDigests()
    most = trace.info.max_gap_instructions
    for number in range(trace.n_groups):
        columns = trace.group(number)
        gap = int(columns.instruction[0]) - before
        if not 0 <= gap <= most:
            raise BadTrace(
                f"trace {trace.path}: row group {number} does not follow the one "
                "before it; import it again"
            )
        before = int(columns.instruction[-1])
        total = _merged(total, _of_group(columns))
        digests.update(columns)
    start = int(trace.group(0).instruction[0])
    if start + trace.info.instructions - before > most:  # from the last row to the next lap's first
        raise BadTrace(f"trace {trace.path}: its end is missing; import it again")
    if digests.by_name() != trace.info.columns_xxh3:
        raise BadTrace(
            f"trace {trace.path}: it is damaged (its rows are not those that were "
            "written); copy it again, or import it again"
        )
    return total


def _of_group(columns: Columns) -> Profile:
    pages, first, page_of = np.unique(columns.page, return_index=True, return_inverse=True)
    accesses = np.bincount(page_of, columns.accesses).astype(np.int64)
    writes = np.bincount(page_of, columns.accesses * columns.write).astype(np.int64)
    born_written = columns.write[first].astype(np.bool_)
    return Profile(pages, accesses, writes, born_written, int(columns.write.sum()))


def _merged(old: Profile, new: Profile) -> Profile:
    """Both together; what was born in the older one stays as it was born."""
    pages = np.union1d(old.pages, new.pages)
    at_old, at_new = np.searchsorted(pages, old.pages), np.searchsorted(pages, new.pages)
    accesses, writes = np.zeros(len(pages), np.int64), np.zeros(len(pages), np.int64)
    born_written = np.zeros(len(pages), np.bool_)
    for at, part in ((at_new, new), (at_old, old)):
        accesses[at] += part.accesses
        writes[at] += part.writes
        born_written[at] = part.born_written
    return Profile(pages, accesses, writes, born_written, old.written_rows + new.written_rows)
