"""The verdict of a sweep in plain sentences, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pageferry.report.variants import totals
from paging_core.events import CAUSES

Totals = Sequence[Mapping[str, Any]]
_PAYS = 0.98
"""A change of less than 2 % is called none."""


def verdict(runs: pa.Table) -> list[str]:
    """What the runs say about the five objections of 2009; as much as they can say."""
    rows: Totals = totals(runs).to_pylist()
    said = [_worth(rows, "shadow"), _worth(rows, "hap"), _first_objection(runs)]
    said += [
        _kept_shadows(runs),
        _bandwidth(rows),
        _helps_more(rows, "shadow"),
        _helps_more(rows, "hap"),
    ]
    said.append(_adaptive(rows))
    return [sentence for sentence in said if sentence]


def _of(rows: Totals, paging: str, *, suppress: bool = True, plain: bool = True) -> Totals:
    return [
        r
        for r in rows
        if r["paging"] == paging and r["suppress"] == suppress and r["plain"] == plain
    ]


def _change(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    return (
        f"{percent:+.1f} %".replace("-", "−")
        if abs(percent) < 10
        else f"{percent:+.0f} %".replace("-", "−")
    )


def _best(rows: Totals) -> Mapping[str, Any] | None:
    found = [r for r in rows if r["tracking"] is not None]
    return min(found, key=lambda r: r["tracking"], default=None)


def _worth(rows: Totals, paging: str) -> str:
    best = _best([r for r in _of(rows, paging) if r["group_pages"] > 1])
    if best is None:
        return ""
    name = "shadow paging that blows its tables" if paging == "shadow" else "HAP"
    helped = "help" if best["tracking"] < _PAYS else "do not help"
    return (
        f"Under {name}, page groups {helped} the guest: {best['variant']} does best over all "
        f"loads, with {_change(best['fixups'])} fixup faults, {_change(best['tracking'])} time "
        f"spent on tracking and {_change(best['wire'])} bytes on the wire, unchanged pages "
        "suppressed."
    )


def _first_objection(runs: pa.Table) -> str:
    single = [
        r for r in runs.to_pylist()
        if r["paging"] == "shadow" and r["plain"] and r["group_pages"] == 1 and r["suppress"]
    ]  # fmt: skip
    spent = {cause: sum(r[f"time_{cause}_ns"] for r in single) for cause in CAUSES}
    whole = sum(spent.values())
    if not whole:
        return ""
    blown = 100 * (spent["rebuild"] + spent["teardown"]) / whole
    return (
        f"The first objection: with single pages {blown:.0f} % of shadow paging's tracking time "
        "goes into tearing tables down and building them again, "
        f"{100 * spent['fixup'] / whole:.0f} % into fixup faults, all loads together; it is the "
        f"larger part on {_named(_blown(r) > r['time_fixup_ns'] and r['load'] for r in single)}. "
        "Groups can only save the second part, and the entries they install on the way."
    )


def _blown(run: Mapping[str, Any]) -> int:
    return int(run["time_rebuild_ns"] + run["time_teardown_ns"])


def _named(loads: Iterable[str | bool]) -> str:
    found = sorted({str(load) for load in loads if load})
    return ", ".join(found) if found else "none of them"


def _kept_shadows(runs: pa.Table) -> str:
    """Keeping shadows against groups of 64, load by load: the published 31 % against 21 %."""
    by_variant: dict[str, dict[str, float]] = {"n = 64": {}, "n = 1, write-protect": {}}
    for r in runs.to_pylist():
        if r["paging"] == "shadow" and r["suppress"] and r["tracking"] is not None:
            by_variant.get(r["variant"], {})[r["load"]] = r["tracking"]
    groups, kept = by_variant.values()
    both = {load for load in groups if load in kept and min(groups[load], kept[load]) < 1}
    if not both:
        return ""
    return (
        "Keeping the shadows and revoking write access alone (write-protect, single pages) gains "
        f"more than groups of 64 on {_named(load for load in both if kept[load] < groups[load])}, "
        f"less on {_named(load for load in both if kept[load] >= groups[load])}."
    )


def _bandwidth(rows: Totals) -> str:
    parts = []
    for paging in ("shadow", "hap"):
        with_, without = (
            next((r for r in _of(rows, paging, suppress=s) if r["group_pages"] == 64), None)
            for s in (True, False)
        )
        if with_ is not None and without is not None:
            parts.append(
                f"{paging} {_change(without['wire'])} bytes and {_change(without['downtime'])} "
                f"downtime without suppression, {_change(with_['wire'])} and "
                f"{_change(with_['downtime'])} with it"
            )
    if not parts:
        return ""
    return (
        f"The second and third: groups of 64 cost {'; '.join(parts)}. A digest for each "
        "unchanged page takes most of the price of false dirties away."
    )


def _helps_more(rows: Totals, paging: str) -> str:
    groups = _best([r for r in _of(rows, paging) if r["group_pages"] > 1])
    others = [r for r in _of(rows, paging, plain=False) if r["variant"] != "adaptive"]
    other = _best([r for r in others if r["wire"] <= 1.05])
    if groups is None or other is None or other["tracking"] >= groups["tracking"]:
        return ""
    return (
        f"Groups help, but this helps more under {paging}: {other['variant']}, "
        f"{_change(other['tracking'])} tracking time and {_change(other['wire'])} bytes, against "
        f"{_change(groups['tracking'])} and {_change(groups['wire'])} with {groups['variant']} "
        "alone."
    )


def _adaptive(rows: Totals) -> str:
    parts = [
        f"{r['paging']} {_change(r['fixups'])} fixups, {_change(r['wire'])} bytes"
        for r in rows
        if r["variant"] == "adaptive" and r["suppress"] and r["fixups"] is not None
    ]
    return f"Groups that learn their size: {'; '.join(parts)}." if parts else ""
