"""The result of a sweep: one row per point, every setting and every measure a column."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pageferry.document import Document
from pageferry.request import ADAPTIVE
from pageferry.sweep.point import Point
from pageferry.sweep.work import Finished
from paging_core.events import CAUSES, FAULT_KINDS

_SETTINGS = {
    "load": pa.string(),
    "workload": pa.string(),
    "trace": pa.string(),
    "memory_bytes": pa.int64(),
    "fill": pa.string(),
    "paging": pa.string(),
    "clean": pa.string(),
    "clear_chunk_bytes": pa.int64(),
    "pml": pa.bool_(),
    "group_pages": pa.int32(),
    "group_trigger": pa.int32(),
    "group_scope": pa.string(),
    "d_bit_filter": pa.bool_(),
    "prefetch": pa.bool_(),
    "out_of_sync": pa.bool_(),
    "suppress": pa.bool_(),
    "zstd_level": pa.int32(),
    "link_bits_per_s": pa.int64(),
    "latency_ns": pa.int64(),
    "policy": pa.string(),
    "downtime_limit_ns": pa.int64(),
    "max_downtime_ns": pa.int64(),
    "max_rounds": pa.int32(),
    "warmup_ns": pa.int64(),
    "seed": pa.int64(),
}
_PAGES = ("sent", "unique", "resent", "data", "zero", "suppressed", "skipped", "falsely_dirty")
_MEASURES = {
    "verified": pa.bool_(),
    "outcome": pa.string(),
    "rounds": pa.int32(),
    "accesses": pa.int64(),
    "slowdown": pa.float64(),
    "base_ns": pa.int64(),
    **{f"time_{cause}_ns": pa.int64() for cause in CAUSES},
    **{f"faults_{kind}": pa.int64() for kind in (*FAULT_KINDS, "total")},
    **{f"pages_{kind}": pa.int64() for kind in _PAGES},
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
        **_SETTINGS,
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
        **_settings(point),
    }
    if finished.document is not None:
        row |= _measures(finished.document)
    return row


def table_of(rows: list[Row]) -> pa.Table:
    """All rows in an order that does not depend on who finished first."""
    table = pa.Table.from_pylist(rows, SCHEMA)
    order = [(name, "ascending") for name in _SETTINGS]
    return table.sort_by([*order, ("point", "ascending")])


def _settings(point: Point) -> Row:
    config: Mapping[str, Any] = point.configured
    trace = point.configured["trace"]
    pages = point.configured["group_pages"]
    named: Row = {
        "load": point.load,
        "workload": point.configured["workload"] or "",
        "trace": trace["file"] if trace else "",
        "group_pages": 0 if pages == ADAPTIVE else pages,
    }
    return {name: named.get(name, config.get(name)) for name in _SETTINGS}


def _measures(document: Document) -> Row:
    guest, pages = document["guest"], document["pages"]
    times = {f"time_{cause}_ns": guest["time_ns"][cause] for cause in CAUSES}
    faults = {f"faults_{kind}": count for kind, count in document["faults"].items()}
    return {
        "verified": document["verified"],
        "outcome": document["outcome"],
        "rounds": len(document["rounds"]),
        "accesses": guest["accesses"],
        "slowdown": guest["slowdown"],
        "base_ns": guest["time_ns"]["base"],
        **times,
        **faults,
        **{f"pages_{kind}": count for kind, count in pages.items()},
        "bytes_raw": document["bytes"]["raw"],
        "bytes_wire": document["bytes"]["wire"],
        "total_s": document["time"]["total_s"],
        "downtime_s": document["time"]["downtime_s"],
        "memory_digest": document["memory_digest"],
        "document": json.dumps(document, ensure_ascii=False),
    }
