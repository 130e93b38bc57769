"""The result of a sweep: one row per point, every setting and every measure a column."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from pageferry.document import Document
from pageferry.price_range import UNATTRIBUTED
from pageferry.sweep.point import Point
from pageferry.sweep.settings import NAMES, SETTINGS, settings_of
from pageferry.sweep.work import Finished
from paging_core.density import GROUPS
from paging_core.guest_accounts import all_causes, all_faults
from paging_core.settings import Role

_CAUSES = (*all_causes(), UNATTRIBUTED)
_PAGES = ("sent", "unique", "resent", "data", "zero", "suppressed", "skipped", "falsely_dirty")
_MEASURES = {
    "verified": pa.bool_(),
    "outcome": pa.string(),
    "rounds": pa.int32(),
    "accesses": pa.int64(),
    "slowdown": pa.float64(),
    "slowdown_low": pa.float64(),
    "slowdown_high": pa.float64(),
    "base_ns": pa.int64(),
    **{f"time_{cause}_ns": pa.int64() for cause in _CAUSES},
    **{f"faults_{kind}": pa.int64() for kind in (*all_faults(), "total")},
    **{f"pages_{kind}": pa.int64() for kind in _PAGES},
    **{f"density_{n}": pa.float64() for n in GROUPS},
    "bytes_raw": pa.int64(),
    "bytes_wire": pa.int64(),
    "total_s": pa.float64(),
    "downtime_s": pa.float64(),
    "memory_digest": pa.string(),
    "document": pa.string(),
}
SCHEMA = pa.schema(
    {
        "point": pa.string(),
        "status": pa.string(),
        "error": pa.string(),
        "command": pa.string(),
        "load": pa.string(),
        **{setting.name: setting.kind for setting in SETTINGS},
        **_MEASURES,
    }
)
"""Columns of ``results.parquet``; docs/sweep.md says what they mean."""

Row = dict[str, Any]


def row_of(point: Point, finished: Finished) -> Row:
    """The row of a point that ended, well or not."""
    row: Row = {
        "point": point.id,
        "status": "failed" if finished.error else "ok",
        "error": finished.error,
        "command": point.command,
        "load": point.load,
        **settings_of(point.configured),
    }
    if finished.document is not None:
        row |= _measures(finished.document)
    return row


def table_of(rows: list[Row]) -> pa.Table:
    """All rows in an order that does not depend on who finished first."""
    table = pa.Table.from_pylist([_whole(row) for row in rows], SCHEMA)
    repeated = [one.name for one in SETTINGS if one.role is Role.REPETITION]
    alike = [name for name in NAMES if name not in repeated]
    order = [(name, "ascending") for name in ("load", *alike, *repeated)]
    return table.sort_by([*order, ("point", "ascending")])


def _whole(row: Row) -> Row:
    """With columns that there were not when it was written: its document has every setting."""
    if all(name in row for name in NAMES) or not row.get("document"):
        return row
    return {**row, **settings_of(json.loads(row["document"])["config"])}


def _measures(document: Document) -> Row:
    guest, pages = document["guest"], document["pages"]
    times = {f"time_{cause}_ns": guest["time_ns"].get(cause) for cause in _CAUSES}
    ends = guest.get("range")
    faults = {f"faults_{kind}": count for kind, count in document["faults"].items()}
    return {
        "verified": document["verified"],
        "outcome": document["outcome"],
        "rounds": len(document["rounds"]),
        "accesses": guest["accesses"],
        "slowdown": guest["slowdown"],
        "slowdown_low": ends["low"]["slowdown"] if ends else None,
        "slowdown_high": ends["high"]["slowdown"] if ends else None,
        "base_ns": guest["time_ns"].get("base"),
        **times,
        **faults,
        **{f"pages_{kind}": count for kind, count in pages.items()},
        **{f"density_{n}": value for n, value in (document.get("density") or {}).items()},
        "bytes_raw": document["bytes"]["raw"],
        "bytes_wire": document["bytes"]["wire"],
        "total_s": document["time"]["total_s"],
        "downtime_s": document["time"]["downtime_s"],
        "memory_digest": document["memory_digest"],
        "document": json.dumps(document, ensure_ascii=False),
    }
