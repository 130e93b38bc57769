"""A flow trace opened for questions: checked, and its tables as DuckDB views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pageferry import results
from pageferry.damage import computing_from
from pageferry.document import Document
from pageferry.results import BadResult
from paging_core.reading import read_json
from paging_core.text import shown
from paging_core.units import FRAME_BYTES
from source_host.watch.flow_files import FLOW_SCHEMA, MANIFEST, TABLES

RESULT = "result.json"
"""The result document of the migration, beside its trace."""
_MOST_NS = 2**61
MEMORY_LIMIT = "1GB"
"""Of DuckDB; what does not fit is spilled to a temporary directory."""


@dataclass(frozen=True)
class FlowTrace:
    """One migration's flow.

    Attributes:
        directory: where it lies.
        document: the result of the migration.
        db: views `events`, `sends`, `moments`; `dirtied` and `opened` of `epochs.py`.
    """

    directory: Path
    document: Document
    db: duckdb.DuckDBPyConnection

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""
        return int(self.document["config"]["memory_bytes"]) // FRAME_BYTES

    def rows(self, sql: str, **values: object) -> list[dict[str, Any]]:
        """The answer to a question, row by row."""
        rows: list[dict[str, Any]] = self.table(sql, **values).to_pylist()
        return rows

    def row(self, sql: str, **values: object) -> dict[str, Any]:
        """The one row of an answer."""
        (row,) = self.rows(sql, **values)
        return row

    def table(self, sql: str, **values: object) -> pa.Table:
        """The answer to a question as a table."""
        return self.db.sql(sql, params=values).to_arrow_table()


def checked(directory: Path) -> Document:
    """The result of the migration whose flow trace lies there, if that is whole.

    Raises:
        BadResult: no trace, an incomplete one, one of another version, or without its result.
    """
    manifest = _manifest(directory)
    for table in TABLES:
        _check_table(directory, table, manifest)
    return _document(directory)


@contextmanager
def flow_trace(directory: Path) -> Iterator[FlowTrace]:
    """Open the trace that ``pageferry migrate --flow`` wrote.

    Raises:
        BadResult: no trace, an incomplete one, one of another version, or without its result.
    """
    document = checked(directory)
    with (
        TemporaryDirectory(prefix="pageferry-") as spill,
        duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as db,
        computing_from(
            f"the flow trace in {directory}",
            "if the disk has room it is damaged: record it again",
            duckdb.Error,
        ),
    ):
        for table in TABLES:
            db.read_parquet(str(directory / f"{table}.parquet")).create_view(table)
        trace = FlowTrace(directory, document, db)
        _check_same_migration(trace)
        _check_rows(trace)
        yield trace


def _check_same_migration(trace: FlowTrace) -> None:
    """Whether trace and result tell of the same faults and pages."""
    document = trace.document
    if document["outcome"] != "completed":
        return
    seen = trace.row(
        "SELECT (SELECT count(*) FROM sends) AS sent, "
        "count(*) FILTER (kind = 'fixup') AS fixups FROM events"
    )
    told = {"sent": document["pages"]["sent"], "fixups": document["faults"]["fixup"]}
    if seen != told:
        raise BadResult(
            f"{trace.directory / RESULT} is of another migration than the flow trace beside it: "
            f"{told['sent']} pages sent, not {seen['sent']}; put the right one there"
        )


def _check_rows(trace: FlowTrace) -> None:
    """Whether rows are of this guest and within any migration's time."""
    for table in TABLES:
        frames = "" if table == "moments" else " OR gfn < -1 OR gfn >= $frames"
        values = {} if table == "moments" else {"frames": trace.n_frames}
        wrong = trace.row(
            f"SELECT count(*) FILTER (time_ns < 0 OR time_ns > {_MOST_NS}{frames}) AS n "  # noqa: S608
            f"FROM {table}",
            **values,
        )["n"]
        if wrong:
            raise BadResult(
                f"{trace.directory / table}.parquet has {wrong} rows that cannot be of this "
                "migration; record the flow again"
            )


def _manifest(directory: Path) -> Mapping[str, Any]:
    if not directory.is_dir():
        raise BadResult(f"there is no directory {directory}; name one of pageferry migrate --flow")
    if not (directory / MANIFEST).is_file():
        if any((directory / f"{table}.parquet").exists() for table in TABLES):
            raise BadResult(
                f"the flow trace in {directory} is incomplete: its migration was killed; "
                "run it again into an empty directory"
            )
        raise BadResult(f"{directory} holds no flow trace; pageferry migrate --flow DIR makes one")
    manifest = read_json(directory / MANIFEST, BadResult, way_out="record the flow again")
    found = manifest.get("schema") if isinstance(manifest, dict) else None
    if found != FLOW_SCHEMA:
        raise BadResult(
            f"the flow trace in {directory} is of version {shown(str(found))}, this pageferry "
            f"reads {FLOW_SCHEMA}; record it again"
        )
    return dict(manifest)


def _check_table(directory: Path, table: str, manifest: Mapping[str, Any]) -> None:
    path = directory / f"{table}.parquet"
    if path.exists() and not path.is_file():  # reading it might never end
        raise BadResult(f"{path} is no regular file; record the flow again")
    try:
        metadata = pq.read_metadata(path)
        schema = pq.read_schema(path)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise BadResult(f"{path} is missing or damaged; record the flow again") from error
    rows = manifest.get("rows")
    same = isinstance(rows, dict) and rows.get(table) == metadata.num_rows
    if not same or not schema.equals(TABLES[table]):
        raise BadResult(f"{path} is not the table that its manifest says; record the flow again")


def _document(directory: Path) -> Document:
    path = directory / RESULT
    if not path.exists():
        raise BadResult(
            f"{path} is missing: of a migration between hosts elsewhere write the result there, "
            f"with pageferry migrate --json {path}"
        )
    return results.read(path)
