"""An analysis as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pageferry.analysis.analysis import Analysis
from pageferry.analysis.group_size import NEAR
from pageferry.fitting import Fitted
from pageferry.tables import count
from paging_core.units import FRAME_BYTES, format_bytes, format_ns


def tables(analysis: Analysis) -> list[Fitted]:
    """By round, by group size, by distance, by window."""
    sizes = [_sizes(analysis)] if analysis["group_size"]["curve"] else []
    return [_rounds(analysis), *sizes, _distances(analysis), _windows(analysis)]


def _table(title: str, columns: Sequence[str]) -> Fitted:
    return Fitted(tuple(columns), title=title)


def _rounds(analysis: Analysis) -> Fitted:
    columns = ("round", "fixups", "opened", "of these written", "falsely dirty", "their bytes")
    table = _table("What groups opened, by round", columns)
    for row in analysis["false_dirties"]["by_round"]:
        counts = (row["fixups"], row["opened"], row["saved"], row["falsely_dirty"])
        table.add(str(row["round"]), *map(count, counts), format_bytes(row["false_bytes"]))
    return table


def _sizes(analysis: Analysis) -> Fitted:
    cases = {
        "guest": "guest",
        "with_suppression": "link, digest",
        "without_suppression": "link, page",
    }
    columns = ("n", "faults", "falsely dirty", "written of n")
    prices = [column for title in cases.values() for column in (title, "pays from")]
    title = (
        "Groups of n on the same writes: what they would cost (to a tenth; ≤: at most), and how "
        "many of n must be written"
    )
    table = _table(title, (*columns, *prices))
    for row in analysis["group_size"]["curve"]:
        shown = [
            text
            for case in cases
            for text in (_cost(row, case), f"{row['break_even_k'][case]:.1f}")
        ]
        counts = (_at_most(row, "faults"), _at_most(row, "falsely_dirty"))
        table.add(str(row["n"]), *counts, f"{row['written_per_group']:.1f}", *shown)
    return table


def _at_most(row: dict[str, Any], name: str) -> str:
    """A count, or what it cannot exceed where the flow does not say more."""
    sign = "≤" if row[f"{name}_least"] < row[name] else ""
    return f"{sign}{count(row[name])}"


def _cost(row: dict[str, Any], case: str) -> str:
    sign = "≤" if NEAR * row["cost_least_ns"][case] < row["cost_ns"][case] else ""
    return f"{sign}{format_ns(row['cost_ns'][case])}"


def _distances(analysis: Analysis) -> Fitted:
    by_distance = analysis["neighbours"]["by_distance"]
    delays = list(by_distance[0]["within_ms"])
    columns = ("distance", *(f"within {ms} ms" for ms in delays), "same round")
    table = _table("The chance that a clean neighbour is dirtied too", columns)
    for row in by_distance:
        shares = [*row["within_ms"].values(), row["in_epoch"]]
        table.add(str(row["distance"]), *(f"{100 * share:.1f} %" for share in shares))
    return table


def _windows(analysis: Analysis) -> Fitted:
    columns = ("window", "frames, mean", "most", "mean")
    table = _table("The writable working set: distinct frames dirtied in a window", columns)
    for row in analysis["working_set"]:
        size = format_bytes(row["mean"] * FRAME_BYTES)
        table.add(f"{row['window_ms']:g} ms", f"{row['mean']:,.0f}", count(row["most"]), size)
    return table
