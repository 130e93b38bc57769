"""Small sweeps, and what their tables must say, computed again from the result documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pageferry.report.repeats import Repeated, repeated
from pageferry.report.variants import compared
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.table import row_of, table_of
from pageferry.sweep.work import Task, perform

Document = Mapping[str, Any]

REMEDY = (
    "clean", "clear_chunk_bytes", "pml", "group_pages", "group_trigger", "group_scope",
    "d_bit_filter", "pml_buffer_entries", "dirty_ring", "group_opening", "initially_set",
    "slot_zap",
)  # fmt: skip
"""Settings of a document in which a run may differ from the single pages it is set against."""
OWN_CLEAN = {
    "xen": {"shadow": "blow", "hap": "lazy"},
    "xen-2009": {"shadow": "blow", "hap": "eager"},
    "kvm": {"shadow": "write-protect", "hap": "write-protect"},
}

_done: dict[str, dict[str, Any]] = {}


def row(point: Point) -> dict[str, Any]:
    """The row of a point that is run here, once in a session."""
    if point.id not in _done:
        _done[point.id] = row_of(point, perform(Task(point.options, model_digest())))
    return dict(_done[point.id])


def table(points: Iterable[Point]) -> pa.Table:
    """The table of a sweep over points."""
    return table_of([row(each) for each in {point.id: point for point in points}.values()])


def runs(points: Iterable[Point]) -> list[dict[str, Any]]:
    """What a report makes of it: each run against its baseline."""
    rows: list[dict[str, Any]] = compared(table(points)).to_pylist()
    return rows


def lines(points: Iterable[Point]) -> list[Repeated]:
    """The lines of its tables by load."""
    return repeated(runs(points))


# -- the second computation, from documents alone ------------------------------------------


def documents(rows: Iterable[Mapping[str, Any]]) -> list[Document]:
    """Of runs that completed."""
    return [json.loads(each["document"]) for each in rows]


def tracking_ns(document: Document) -> int:
    return sum(ns for cause, ns in document["guest"]["time_ns"].items() if cause != "base")


def _overheads(document: Document) -> dict[str, float | None]:
    """Percent, at the prices of the run and at the ends of their intervals; None: no twin."""
    guest = document["guest"]
    ends = {"overhead_low": guest["range"]["low"], "overhead_high": guest["range"]["high"]}
    return {
        name: None if at["slowdown"] is None else 100 * (at["slowdown"] - 1)
        for name, at in {"overhead": guest, **ends}.items()
    }


def figures(document: Document) -> dict[str, Any]:
    """What is set against single pages."""
    return {
        **_overheads(document),
        "fixups": document["faults"]["fixup"],
        "faults": document["faults"]["total"],
        "wire": document["bytes"]["wire"],
        "tracking_time": tracking_ns(document),
        "total": document["time"]["total_s"],
        "downtime": document["time"]["downtime_s"],
    }


def is_single(config: Mapping[str, Any]) -> bool:
    scope = "virtual" if config["paging"] == "shadow" else "physical"
    return (
        config["group_pages"] == 1
        and config["group_trigger"] == 1
        and config["group_scope"] == scope
        and not config["pml"]
        and not config["d_bit_filter"]
        and not config["dirty_ring"]
        and not config["initially_set"]
        and config["group_opening"] == "fault"
        and config["slot_zap"] == "all"
        and config["clean"] == OWN_CLEAN[config["hypervisor"]][config["paging"]]
    )


def alike(config: Mapping[str, Any], but: Sequence[str]) -> str:
    """Everything that a document says was configured, apart from some of it, as one word."""
    return json.dumps({k: v for k, v in config.items() if k not in but}, sort_keys=True)


def baseline(document: Document, among: Sequence[Document]) -> Document | None:
    """The single pages that agree with a run in all the rest."""
    mine = alike(document["config"], REMEDY)
    found = [
        other for other in among
        if is_single(other["config"]) and alike(other["config"], REMEDY) == mine
    ]  # fmt: skip
    assert len(found) <= 1
    return found[0] if found else None
