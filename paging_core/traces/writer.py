"""Writing a trace of a program: row group by row group."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from paging_core.traces.kernels.replay_ops import Columns
from paging_core.traces.partial import PartialParquet
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
        self._digests = ColumnDigests()
        self._file = PartialParquet(
            path,
            SCHEMA,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=_DICTIONARY,
            column_encoding=_ENCODINGS,
            write_statistics=False,
        )

    def write(self, columns: Columns) -> None:
        """Append rows as one row group.

        Raises:
            BadTrace: it cannot be written (the disk is full).
        """
        self._digests.update(columns)
        arrays = [pa.array(columns.instruction), pa.array(columns.page)]
        self._file.write(
            [*arrays, pa.array(columns.accesses), pa.array(columns.write.view(np.bool_))]
        )

    @property
    def columns_xxh3(self) -> dict[str, str]:
        """Digests of what was written, for the trace's description."""
        return self._digests.by_name()

    def finish(self, info: TraceInfo) -> None:
        """Write the end, and give the file its name.

        Raises:
            BadTrace: it cannot be written.
        """
        self._file.finish({METADATA_KEY: info.to_metadata()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, traceback)
