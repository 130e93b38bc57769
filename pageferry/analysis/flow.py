"""A flow opened for questions: checked, and its tables as DuckDB views."""

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
from pageferry.flow_directory import RESULT, check_pair
from pageferry.results import BadResult
from paging_core.reading import read_json
from paging_core.text import shown
from paging_core.units import FRAME_BYTES
from source_host.watch.flow_files import FLOW_SCHEMA, MANIFEST, TABLES, digest_of

_MOST_NS = 2**61
MEMORY_LIMIT = "1GB"
"""Of DuckDB; what does not fit is spilled to a temporary directory."""


@dataclass(frozen=True)
class Flow:
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
    """The result of the migration whose flow lies there, if both are whole.

    Raises:
        BadResult: no flow, an incomplete one, one of another version, without its result or with
            another one's, or of a migration that did not complete.
    """
    manifest = _manifest(directory)
    for table in TABLES:
        _check_table(directory, table, manifest)
    document = _document(directory)
    check_pair(directory)
    _check_outcome(directory, document, manifest)
    return document


def _check_outcome(directory: Path, document: Document, manifest: Mapping[str, Any]) -> None:
    """Only of a migration that went all its way a flow can say what groups were worth."""
    outcome, error = document["outcome"], document["error"]
    if outcome in ("failed", "cancelled"):
        why = f": {shown(error['message']).rstrip('.')}" if error else ""
        raise BadResult(
            f"the migration traced in {directory} ended {outcome}{why}; its flow answers nothing, "
            "run it again into an empty directory"
        )
    if manifest.get("outcome") != outcome:
        raise BadResult(
            f"{directory / RESULT} is of another migration than the flow beside it: that "
            f"one ended {shown(str(manifest.get('outcome')))}; put the right one there"
        )


@contextmanager
def open_flow(directory: Path) -> Iterator[Flow]:
    """Open the flow that ``pageferry migrate --flow`` wrote.

    Raises:
        BadResult: no flow, an incomplete one, one of another version, or without its result.
    """
    document = checked(directory)
    with (
        TemporaryDirectory(prefix="pageferry-") as spill,
        duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as db,
        computing_from(
            f"the flow in {directory}",
            "if the disk has room it is damaged: record it again",
            duckdb.Error,
        ),
    ):
        for table in TABLES:
            db.read_parquet(str(directory / f"{table}.parquet")).create_view(table)
        flow = Flow(directory, document, db)
        _check_same_migration(flow)
        _check_rows(flow)
        yield flow


_COUNTED = """
SELECT (SELECT count(*) FROM sends) AS "pages sent",
  (SELECT count(DISTINCT gfn) FROM sends) AS "distinct pages sent",
  (SELECT count(*) FILTER (kind = 'data') FROM sends) AS "pages sent with content",
  (SELECT count(*) FILTER (kind = 'zero') FROM sends) AS "zero pages sent",
  (SELECT count(*) FILTER (kind = 'unchanged') FROM sends) AS "digests sent",
  count(*) FILTER (kind = 'fixup') AS "fixup faults",
  (SELECT coalesce(sum(falsely_dirty), 0)::BIGINT FROM moments) AS "falsely dirty pages"
FROM events
"""


def _check_same_migration(flow: Flow) -> None:
    """Whether flow and result tell of the same faults and pages."""
    pages = flow.document["pages"]
    told = {
        "pages sent": pages["sent"],
        "distinct pages sent": pages["unique"],
        "pages sent with content": pages["data"],
        "zero pages sent": pages["zero"],
        "digests sent": pages["suppressed"],
        "fixup faults": flow.document["faults"]["fixup"],
        "falsely dirty pages": pages["falsely_dirty"] or 0,
    }
    seen = flow.row(_COUNTED)
    for what, n in told.items():
        if seen[what] != n:
            raise BadResult(
                f"{flow.directory / RESULT} is of another migration than the flow beside "
                f"it: {n} {what}, not {seen[what]}; put the right one there"
            )


def _check_rows(flow: Flow) -> None:
    """Whether rows are of this guest and within any migration's time."""
    for table in TABLES:
        frames = "" if table == "moments" else " OR gfn < -1 OR gfn >= $frames"
        values = {} if table == "moments" else {"frames": flow.n_frames}
        wrong = flow.row(
            f"SELECT count(*) FILTER (time_ns < 0 OR time_ns > {_MOST_NS}{frames}) AS n "  # noqa: S608
            f"FROM {table}",
            **values,
        )["n"]
        if wrong:
            raise BadResult(
                f"{flow.directory / table}.parquet has {wrong} rows that cannot be of this "
                "migration; record the flow again"
            )


def _manifest(directory: Path) -> Mapping[str, Any]:
    if not directory.is_dir():
        raise BadResult(f"there is no directory {directory}; name one of pageferry migrate --flow")
    if not (directory / MANIFEST).is_file():
        if any((directory / f"{table}.parquet").exists() for table in TABLES):
            raise BadResult(
                f"the flow in {directory} is incomplete: its migration was killed; "
                "run it again into an empty directory"
            )
        raise BadResult(f"{directory} holds no flow; pageferry migrate --flow DIR makes one")
    manifest = read_json(directory / MANIFEST, BadResult, way_out="record the flow again")
    found = manifest.get("schema") if isinstance(manifest, dict) else None
    if found != FLOW_SCHEMA:
        raise BadResult(
            f"the flow in {directory} is of version {shown(str(found))}, this pageferry "
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
        digest = _digest(path)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise BadResult(f"{path} is missing or damaged; record the flow again") from error
    rows = manifest.get("rows")
    same = isinstance(rows, dict) and rows.get(table) == metadata.num_rows
    digests = manifest.get("xxh3_64")
    same = same and isinstance(digests, dict) and digests.get(table) == digest
    if not same or not schema.equals(TABLES[table]):
        raise BadResult(f"{path} is not the table that its manifest says; record the flow again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return digest_of(file)


def _document(directory: Path) -> Document:
    path = directory / RESULT
    if not path.exists():
        raise BadResult(
            f"{path} is missing: of a migration between hosts elsewhere write the result there, "
            f"with pageferry migrate --json {path}"
        )
    return results.read(path)
