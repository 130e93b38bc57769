"""The runs of a sweep as a reader compares them: which remedy, against which single pages.

A *variant* is what was done about the faults: groups of n, groups that learn, another clean
policy, PML. Every run is set against its *baseline*: the run that agrees with it in every other
setting (what the guest runs with all of its parameters, the seed, memory, link, prices, policy,
the kind of paging …) and has single pages and the clean policy that its hypervisor has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pageferry.price_range import UNATTRIBUTED
from pageferry.sweep.settings import (
    ADAPTIVE_PAGES,
    ALIKE,
    BY_NAME,
    REMEDIES,
    values_of,
)
from paging_core.guest_accounts import all_causes

Row = Mapping[str, Any]

MEASURES = {
    "overhead": "overhead_percent",
    "overhead_low": "overhead_low_percent",
    "overhead_high": "overhead_high_percent",
    "fixups": "faults_fixup",
    "faults": "faults_total",
    "wire": "bytes_wire",
    "tracking_time": "tracking_ns",
    "total": "total_s",
    "downtime": "downtime_s",
}
"""What is set against the baseline, by the name of the ratio."""
_NAMED = ("group_pages", "group_scope", "group_trigger", "d_bit_filter", "clean")
"""The order in which a variant's name says what it differs in; the rest of them after these."""


def compared(results: pa.Table) -> pa.Table:
    """Every run that completed, with its variant and its ratios to its baseline.

    Returns:
        Columns of the sweep's table and `variant`, `plain` (fixed groups and nothing else),
        `overhead_percent` (what tracking cost the guest, on top of what its untracked twin ran),
        `overhead_low_percent` and `overhead_high_percent` (the same events at the ends of their
        prices), `tracking_ns`, and the ratios `overhead`, `overhead_low`, `overhead_high`,
        `fixups`, `faults`, `wire`, `tracking_time`, `total`, `downtime` to the baseline,
        whose own values are `base_<ratio>`; NULL where there is none, or 0.
    """
    runs = [_described(row) for row in results.to_pylist() if row["status"] == "ok"]
    baselines = {values_of(run, ALIKE): run for run in runs if _single(run)}
    rows = [{**run, **_ratios(run, baselines.get(values_of(run, ALIKE)))} for run in runs]
    return pa.Table.from_pylist(sorted(rows, key=_place), _schema(results.schema))


def variant_of(row: Row) -> str:
    """What was done, in words: unlike remedies have unlike names."""
    differs = [s.name for s in REMEDIES if s.name != "group_pages" and _is_said(row, s.name)]
    parts = ["PML"] if row["pml"] else [BY_NAME["group_pages"].show(row["group_pages"])]
    order = [*_NAMED, *(name for name in differs if name not in _NAMED)]
    parts += [BY_NAME[name].show(row[name]) for name in order if name in differs and name != "pml"]
    return ", ".join(parts)


def is_plain(row: Row) -> bool:
    """Groups of a fixed size, one of them included, and nothing else."""
    rest = (s.name for s in REMEDIES if s.name != "group_pages")
    return bool(row["group_pages"] != ADAPTIVE_PAGES and all(_is_plain(row, n) for n in rest))


def _single(row: Row) -> bool:
    return is_plain(row) and _is_plain(row, "group_pages")


def _is_said(row: Row, name: str) -> bool:
    """What is neither plain nor as it always is, such as a PML buffer of 512 entries."""
    return not _is_plain(row, name) and bool(row[name] != BY_NAME[name].usual)


def _is_plain(row: Row, name: str) -> bool:
    plain = BY_NAME[name].plain
    return plain is not None and bool(row[name] == plain(row))


def _described(row: Row) -> dict[str, Any]:
    times = (row.get(f"time_{cause}_ns") for cause in (*all_causes(), UNATTRIBUTED))
    return {
        **row,
        "variant": variant_of(row),
        "plain": is_plain(row),
        "tracking_ns": sum(ns or 0 for ns in times),
        "overhead_percent": _percent(row["slowdown"]),
        "overhead_low_percent": _percent(row.get("slowdown_low")),
        "overhead_high_percent": _percent(row.get("slowdown_high")),
    }


def _percent(slowdown: float | None) -> float | None:
    return None if slowdown is None else 100 * (slowdown - 1)


def _ratios(run: Row, baseline: Row | None) -> dict[str, Any]:
    ratios: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        base = baseline[measure] if baseline is not None else None
        ratios[f"base_{name}"] = base
        ratios[name] = run[measure] / base if base and run[measure] is not None else None
    return ratios


def _place(run: Row) -> tuple[Any, ...]:
    """By load, kind of paging and suppression, plain groups by size, then the other variants."""
    rest = [_sortable(run[setting.name]) for setting in ALIKE]
    return (
        run["load"], run["paging"], not run["suppress"], *rest, not run["plain"],
        run["group_pages"], run["variant"], run["point"],
    )  # fmt: skip


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


def _schema(results: pa.Schema) -> pa.Schema:
    fields: dict[str, pa.DataType] = {field.name: field.type for field in results}
    fields |= {"variant": pa.string(), "plain": pa.bool_(), "tracking_ns": pa.int64()}
    for name in ("overhead_percent", "overhead_low_percent", "overhead_high_percent"):
        fields[name] = pa.float64()
    for name, measure in MEASURES.items():
        fields |= {f"base_{name}": fields[measure], name: pa.float64()}
    return pa.schema(fields)
