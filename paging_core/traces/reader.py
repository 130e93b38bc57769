"""Opening a trace, and reading it one row group at a time.

Whatever can be wrong with the file is a `BadTrace` of one line that names it.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pyarrow as pa

from paging_core.errors import BadTrace
from paging_core.traces.kernels.replay_ops import Columns
from paging_core.traces.opened import DAMAGED, OpenedParquet, about
from paging_core.traces.schema import (
    METADATA_KEY,
    MOST_GROUP_ROWS,
    PAGES_TOP,
    SCHEMA,
    TraceInfo,
)

_KEPT_GROUPS = 4


class TraceFile:
    """An open trace. It stays the file that was opened, even if another takes its name.

    Attributes:
        path: as it was given.
        size_bytes: of the file.
        info: what holds for the whole trace.
        digest: XXH3-64 of the file; the same trace has the same one everywhere.
        starts: the row that each group begins with, and the number of rows at the end; int64.
    """

    def __init__(self, path: str) -> None:
        """Open a trace and read what it says about itself.

        Raises:
            BadTrace: it cannot be read, is not a trace of this version, or has no time.
        """
        self.path = path
        self._groups: OrderedDict[int, Columns] = OrderedDict()
        with about(path):
            self._file = opened = OpenedParquet(path)
            try:
                self.size_bytes, self.digest = opened.size_bytes, opened.digest
                self.info = _info(opened)
                groups = opened.group_rows(MOST_GROUP_ROWS)
            except BaseException:
                opened.close()
                raise
        self.starts = np.cumsum([0, *groups], dtype=np.int64)

    @property
    def n_rows(self) -> int:
        """Rows of all groups."""
        return int(self.starts[-1])

    @property
    def n_groups(self) -> int:
        """Row groups."""
        return len(self.starts) - 1

    def close(self) -> None:
        """Close the file; no group can be read any more."""
        self._groups.clear()
        self._file.close()

    def group(self, number: int) -> Columns:
        """The rows of one group, checked; the last few that were read are kept.

        Raises:
            BadTrace: they are damaged, or cannot be rows of a trace.
        """
        if number in self._groups:
            self._groups.move_to_end(number)
            return self._groups[number]
        with about(self.path):
            columns = _columns(self._file.parquet.read_row_group(number, use_threads=False))
            if len(columns.page) != self.starts[number + 1] - self.starts[number]:
                raise BadTrace(f"row group {number} is not as long as it says; {DAMAGED}")
            _check_rows(columns, self.info, number)
        self._groups[number] = columns
        if len(self._groups) > _KEPT_GROUPS:
            self._groups.popitem(last=False)
        return columns


def _info(opened: OpenedParquet) -> TraceInfo:
    described, parquet = opened.described(METADATA_KEY), opened.parquet
    if described is None:
        raise BadTrace(
            "it is a Parquet file, but not a trace; make a trace with: pageferry trace import"
        )
    info = TraceInfo.from_metadata(described)
    found = {field.name: field.type for field in parquet.schema_arrow}
    for field in SCHEMA:
        if found.get(field.name) != field.type:
            raise BadTrace(f"it has no column {field.name!r} of type {field.type}; import it again")
    if parquet.metadata.num_rows == 0:
        raise BadTrace("it holds no accesses; import it again")
    if why := info.without_time:
        raise BadTrace(f"it {why}")
    return info


def _columns(table: pa.Table) -> Columns:
    if any(table.column(field.name).null_count for field in SCHEMA):
        raise BadTrace("it holds rows with missing values; import it again")
    return Columns(
        *(
            np.ascontiguousarray(table.column(field.name).to_numpy(), dtype)
            for field, dtype in zip(SCHEMA, (np.int64, np.int64, np.int32, np.uint8), strict=True)
        )
    )


def _check_rows(columns: Columns, info: TraceInfo, group: int) -> None:
    """What `fill_replayed` relies on, within one group."""
    instruction, page = columns.instruction, columns.page
    gaps = np.diff(instruction)
    good = (
        len(page) > 0
        and 0 <= int(instruction[0]) <= int(instruction[-1]) <= info.instructions
        and int(gaps.min(initial=0)) >= 0
        and int(gaps.max(initial=0)) <= info.max_gap_instructions
        and int(page.min()) >= 0
        and int(page.max()) < PAGES_TOP
        and int(columns.accesses.min()) >= 1
    )
    if not good:
        raise BadTrace(f"row group {group} holds impossible values; {DAMAGED}")
