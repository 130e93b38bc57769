"""Opening a trace, and reading it one row group at a time.

Whatever can be wrong with the file is a `BadTrace` of one line that names it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from paging_core.errors import BadTrace
from paging_core.exhaustion import ran_out
from paging_core.traces.kernels.replay_ops import Columns
from paging_core.traces.schema import (
    METADATA_KEY,
    MOST_GROUP_ROWS,
    PAGES_TOP,
    SCHEMA,
    TraceInfo,
)

_MAGIC = b"PAR1"
_CHUNK_BYTES = 1 << 20
_KEPT_GROUPS = 4
_DAMAGED = "copy it again, or import it again"
_DAMAGE = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,  # columns of the same name
    MemoryError,  # a size that nobody has
    ArithmeticError,
    RecursionError,
)
"""What comes of bytes that are no trace of ours, whatever library meets them first."""


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
        with _about(path):
            _check_kind(Path(path))
            self._file = file = pa.OSFile(path)
            try:
                self.size_bytes = int(file.size())
                self.digest = _digest(file)
                _check_magic(file, self.size_bytes)
                self._parquet = pq.ParquetFile(file)
                self.info = _info(self._parquet)
                groups = _group_rows(self._parquet)
            except BaseException:
                file.close()
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
        with _about(self.path):
            columns = _columns(self._parquet.read_row_group(number, use_threads=False))
            if len(columns.page) != self.starts[number + 1] - self.starts[number]:
                raise BadTrace(f"row group {number} is not as long as it says; {_DAMAGED}")
            _check_rows(columns, self.info, number)
        self._groups[number] = columns
        if len(self._groups) > _KEPT_GROUPS:
            self._groups.popitem(last=False)
        return columns


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Whatever goes wrong in here is one line about that file, or what the host ran out of."""
    try:
        yield
    except BadTrace as error:
        raise BadTrace(f"trace {path}: {error}") from error
    except _DAMAGE as error:
        limit = ran_out(error)
        if limit is not None:  # not the file's fault
            raise limit from error
        if isinstance(error, OSError) and error.errno is not None:
            why = error.strerror if error.strerror and "\n" not in error.strerror else str(error)
            raise BadTrace(f"trace {path}: it cannot be read ({why}); name one that can") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadTrace(f"trace {path}: it is damaged ({reason[:200]}); {_DAMAGED}") from error


def _check_kind(path: Path) -> None:
    """Opening anything but a file may wait for ever, and reading it may never end."""
    if path.is_dir():
        raise BadTrace("it is a directory; name the trace in it")
    if path.exists() and not path.is_file():
        raise BadTrace("it is no regular file but a pipe or a device; name the trace itself")


def _digest(file: pa.NativeFile) -> int:
    digest = xxhash.xxh3_64()
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.intdigest()


def _check_magic(file: pa.NativeFile, size_bytes: int) -> None:
    """Tell a trace that was cut off from a file that never was one."""
    if size_bytes < len(_MAGIC) or file.read_at(len(_MAGIC), 0) != _MAGIC:
        raise BadTrace("it is not a Parquet file; make a trace with: pageferry trace import")
    if size_bytes < 12 or file.read_at(len(_MAGIC), size_bytes - len(_MAGIC)) != _MAGIC:
        raise BadTrace(f"it is truncated: the end of the Parquet file is missing; {_DAMAGED}")


def _info(parquet: pq.ParquetFile) -> TraceInfo:
    described = (parquet.metadata.metadata or {}).get(METADATA_KEY)
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


def _group_rows(parquet: pq.ParquetFile) -> list[int]:
    """How many rows each group has."""
    metadata = parquet.metadata
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    for number, count in enumerate(rows):
        if not 1 <= count <= MOST_GROUP_ROWS:
            raise BadTrace(
                f"row group {number} says it has {count:,} rows, and 1 to {MOST_GROUP_ROWS:,} can "
                f"be; {_DAMAGED}"
            )
    return rows


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
        raise BadTrace(f"row group {group} holds impossible values; {_DAMAGED}")
