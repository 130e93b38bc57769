"""Writing a trace: row group by row group, into a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paging_core.errors import BadTrace
from paging_core.traces.kernels.replay_ops import Columns
from paging_core.traces.schema import METADATA_KEY, SCHEMA, ColumnDigests, TraceInfo

_ENCODINGS = {
    "instruction": "DELTA_BINARY_PACKED",
    "accesses": "DELTA_BINARY_PACKED",
}
_DICTIONARY = ["page"]
_ZSTD_LEVEL = 19


class TraceWriter:
    """A trace under construction; use it in a ``with`` statement and `finish` it there.

    What was not finished is removed at the end, whatever ended it.
    """

    def __init__(self, path: Path) -> None:
        """Begin in a file beside `path`.

        Raises:
            BadTrace: nothing can be written there.
        """
        if path.is_dir():
            raise BadTrace(f"cannot write {path}: it is a directory; name a file in it")
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            self._file = self._partial.open("xb")
        except OSError as error:
            raise _cannot_write(path, error) from error
        self._digests = ColumnDigests()
        self._parquet = pq.ParquetWriter(
            self._file,
            SCHEMA,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=_DICTIONARY,
            column_encoding=_ENCODINGS,
            write_statistics=False,
            store_schema=False,
        )

    def write(self, columns: Columns) -> None:
        """Append rows as one row group.

        Raises:
            BadTrace: it cannot be written (the disk is full).
        """
        self._digests.update(columns)
        arrays: list[Any] = [pa.array(columns.instruction), pa.array(columns.page)]
        arrays += [pa.array(columns.accesses), pa.array(columns.write.view(np.bool_))]
        try:
            self._parquet.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    @property
    def columns_xxh3(self) -> dict[str, str]:
        """Digests of what was written, for the trace's description."""
        return self._digests.by_name()

    def finish(self, info: TraceInfo) -> None:
        """Write the end, and give the file its name.

        Raises:
            BadTrace: it cannot be written.
        """
        try:
            self._parquet.add_key_value_metadata({METADATA_KEY: info.to_metadata()})
            self._parquet.close()
            self._file.close()
            self._partial.replace(self._path)
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            # Closing writes the footer, for which a full disk has no room either.
            with contextlib.suppress(OSError):
                self._parquet.close()
            with contextlib.suppress(OSError):
                self._file.close()
        self._partial.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> BadTrace:
    return BadTrace(f"cannot write {path}: {error.strerror or error}; name another file")
