"""The flow on disk: three Parquet tables and a manifest that is written last.

docs/flow.md describes the columns. A directory without a manifest is a run that did not end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from paging_core.errors import BadOption, LimitExceeded
from paging_core.events import Fault
from paging_core.flow import FlowKind

FLOW_SCHEMA = "pageferry/flow/v2"
MANIFEST = "flow.json"
_PARTIAL = f"{MANIFEST}.partial"
ROW_GROUP_ROWS = 1 << 18
"""Rows that are held back until they are written together."""
_CHUNK_BYTES = 1 << 20

_NAME = pa.dictionary(pa.int8(), pa.string())
_TIME = pa.field("time_ns", pa.int64(), nullable=False)
_ROUND = pa.field("round", pa.int32(), nullable=False)
TABLES: Mapping[str, pa.Schema] = {
    "events": pa.schema(
        [
            _TIME,
            pa.field("kind", _NAME, nullable=False),
            pa.field("detail", _NAME, nullable=False),
            pa.field("gfn", pa.int32(), nullable=False),
            pa.field("leader", pa.int32(), nullable=False),
            pa.field("space", pa.uint8(), nullable=False),
        ]
    ),
    "sends": pa.schema(
        [
            _TIME,
            _ROUND,
            pa.field("gfn", pa.int32(), nullable=False),
            pa.field("kind", _NAME, nullable=False),
            pa.field("changed", pa.bool_(), nullable=False),
            pa.field("wire_bytes", pa.float32(), nullable=False),
        ]
    ),
    "moments": pa.schema(
        [
            _TIME,
            pa.field("kind", _NAME, nullable=False),
            _ROUND,
            pa.field("frames", pa.int64(), nullable=False),
            pa.field("falsely_dirty", pa.int64()),  # null where nobody knows
        ]
    ),
}
"""What each table holds, by the name of its file without ``.parquet``."""

EVENT_KINDS = tuple(kind.name.lower() for kind in FlowKind)
DETAILS = (
    *(fault.name.lower() for fault in Fault),
    "l1", "l1_of_superpage", "l2", "l3", "l4", "none",
)  # fmt: skip
"""What a fault or a shadow page was; the shadow kinds stand in the order of the model's."""
SEND_KINDS = ("none", "data", "zero", "unchanged")
MOMENTS = ("tracking_started", "round_started", "round_ended", "clean", "suspend", "resume")

Column = Any
"""One of pyarrow or numpy."""


def digest_of(file: BinaryIO) -> str:
    """XXH3 (64 bits) of a file from where it stands to its end.

    Raises:
        OSError: it cannot be read.
    """
    digest = xxhash.xxh3_64()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def names(codes: npt.NDArray[Any], of: tuple[str, ...]) -> pa.Array:
    """A column of names from their codes."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(of))


class FlowFiles:
    """The files of one flow, open for writing. Used by one thread."""

    def __init__(self, directory: Path) -> None:
        """Begin in a directory that is empty or not there yet.

        Raises:
            BadOption: it holds something, or cannot be made.
            LimitExceeded: the disk is full.
        """
        self._directory = directory
        self._held: dict[str, list[pa.RecordBatch]] = {name: [] for name in TABLES}
        self._rows = dict.fromkeys(TABLES, 0)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise _not_empty(directory)
            with ExitStack() as stack:
                # All that is written in the end is open from the beginning: when a guest was
                # handed over nothing may be wanting.
                # "x": of two that find the directory empty at the same time one gets it.
                self._manifest = stack.enter_context(self._path(_PARTIAL).open("x"))
                self._sinks: dict[str, BinaryIO] = {}
                self._writers = {name: self._open(name, stack) for name in TABLES}
                self._files = stack.pop_all()
        except FileExistsError as error:
            raise _not_empty(directory) from error
        except OSError as error:
            raise _cannot_write(directory, error) from error

    def append(self, table: str, columns: list[Column]) -> None:
        """Add rows to a table.

        Raises:
            LimitExceeded: the disk is full.
        """
        batch = pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=TABLES[table])
        held = self._held[table]
        held.append(batch)
        self._rows[table] += batch.num_rows
        if sum(one.num_rows for one in held) >= ROW_GROUP_ROWS:
            self._write(table)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write what is held, the ends of the files, and the manifest.

        Raises:
            LimitExceeded: the disk is full.
        """
        for table in TABLES:
            self._write(table)
        try:
            for writer in self._writers.values():
                writer.close()
            digests = {name: self._digest(name) for name in TABLES}
            document = {
                "schema": FLOW_SCHEMA, "rows": self._rows, "xxh3_64": digests, **manifest
            }  # fmt: skip
            self._manifest.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
            self._files.close()
            self._path(_PARTIAL).replace(self._path(MANIFEST))
        except OSError as error:
            raise _cannot_write(self._directory, error) from error

    def close(self) -> None:
        """Close what is still open; without `finish` before it the flow stays incomplete."""
        for writer in self._writers.values():
            with suppress(OSError, ValueError):  # the disk is full, and that was said; or closed
                writer.close()
            writer.is_open = False  # or it tries once more when it is collected
        with suppress(OSError):
            self._files.close()

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _open(self, table: str, stack: ExitStack) -> pq.ParquetWriter:
        sink = stack.enter_context(self._path(f"{table}.parquet").open("x+b"))
        self._sinks[table] = sink
        return pq.ParquetWriter(
            sink,
            TABLES[table],
            compression="zstd",
            compression_level=1,
            use_dictionary=["kind", "detail"] if table == "events" else ["kind"],
        )

    def _digest(self, table: str) -> str:
        sink = self._sinks[table]
        sink.seek(0)
        return digest_of(sink)

    def _write(self, table: str) -> None:
        held, self._held[table] = self._held[table], []
        if not held:
            return
        try:
            self._writers[table].write_table(pa.Table.from_batches(held))
        except OSError as error:
            raise _cannot_write(self._directory, error) from error


def _not_empty(directory: Path) -> BadOption:
    return BadOption(f"{directory} holds files already; name an empty directory")


def _cannot_write(directory: Path, error: OSError) -> LimitExceeded:
    return LimitExceeded(
        f"cannot write the flow to {directory}: {error.strerror or error}; "
        "make room, or name another directory"
    )
