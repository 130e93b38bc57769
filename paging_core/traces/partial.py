"""A Parquet file that appears whole or not at all: it grows beside its place until then."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from paging_core.errors import BadTrace


class PartialParquet:
    """A file under construction; use it in a ``with`` statement and `finish` it there.

    What was not finished is removed at the end, whatever ended it.
    """

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        """Begin in a file beside `path`.

        Args:
            path: where it shall be; a file that is there is replaced.
            schema: of its rows.
            options: of `pyarrow.parquet.ParquetWriter`.

        Raises:
            BadTrace: nothing can be written there.
        """
        if path.is_dir():
            raise BadTrace(f"cannot write {path}: it is a directory; name a file in it")
        self._path = path
        self._schema = schema
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            self._file = self._partial.open("xb")
        except OSError as error:
            raise _cannot_write(path, error) from error
        self._parquet = pq.ParquetWriter(self._file, schema, store_schema=False, **options)

    def write(self, arrays: list[Any]) -> None:
        """Append rows as one row group, an array for each column.

        Raises:
            BadTrace: it cannot be written (the disk is full).
        """
        try:
            self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def finish(self, metadata: Mapping[bytes, bytes]) -> None:
        """Write the end, and give the file its name.

        Raises:
            BadTrace: it cannot be written.
        """
        try:
            self._parquet.add_key_value_metadata(dict(metadata))
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
        traceback: TracebackType | None,
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
