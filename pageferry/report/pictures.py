"""The charts of a sweep: faults against bytes, and slowdown by cause; one for each load.

A chart of which nothing could be drawn is not made: a layer without rows has no extent, and Vega
makes a page of it that is as high as a number can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import altair as alt

from pageferry.price_range import UNATTRIBUTED
from pageferry.report.charts import COLOURS, Spec, chart_of, legend_of, spec_of
from pageferry.report.repeats import Repeated
from pageferry.sweep.settings import ADAPTIVE_PAGES, BY_NAME
from pageferry.tables import CAUSE_LABELS
from paging_core.guest_accounts import all_causes

_ROW_PX, _AXIS_PX = 22, 60
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""Of points. As there are 7 colours beside the line's, 42 variants can be told apart."""
_FRONTIER_PX, _NARROW_PX = 300, 230
"""How high a frontier is drawn, and how wide at least: on a phone."""
_LETTER_PX, _LABEL_PX = 7, 13
"""Room that a label takes: for each letter, and in height."""
_ABOVE_PX, _BELOW_PX = -9, 12
"""Where a label's middle may be, against its point."""


def frontiers(runs: Iterable[Repeated]) -> list[Spec]:
    """Fixup faults against bytes, both against single pages: a chart for each load and place."""
    charts = []
    runs = list(runs)
    looks = _looks(runs)
    for title, mine in _by_title(runs).items():
        rows = [row for run in mine if (row := _place(run)) is not None]
        if len({(row["wire"], row["fixups"]) for row in rows}) > 1:
            charts.append(_frontier(rows, title, looks))
    return charts


def causes(runs: Iterable[Repeated]) -> list[Spec]:
    """Slowdown by cause, for every variant of each load and place."""
    charts = []
    for title, mine in _by_title(runs).items():
        rows = [row for run in mine for row in _causes(run)]
        if rows:
            charts.append(_bars(mine, rows, title))
    return charts


def _by_title(runs: Iterable[Repeated]) -> dict[str, list[Repeated]]:
    found: dict[str, list[Repeated]] = {}
    for run in runs:
        found.setdefault(f"{run.load}, {run.where}", []).append(run)
    return found


def _place(run: Repeated) -> dict[str, Any] | None:
    fixups, wire = run.spread("fixups"), run.spread("wire")
    if fixups is None or wire is None:
        return None
    tracking, downtime = run.spread("tracking_time"), run.spread("downtime")
    pages = run["group_pages"]
    return {
        "variant": run["variant"], "plain": run["plain"], "group_pages": pages,
        "size": BY_NAME["group_pages"].show(pages) if pages == ADAPTIVE_PAGES else str(pages),
        "fixups": fixups.mean, "wire": wire.mean,
        "fixups_least": fixups.least, "fixups_most": fixups.most,
        "wire_least": wire.least, "wire_most": wire.most,
        "tracking": tracking.mean if tracking else None,
        "downtime": downtime.mean if downtime else None,
    }  # fmt: skip


def _looks(runs: Iterable[Repeated]) -> dict[str, tuple[str, str]]:
    """Colour and shape of every variant of a page: the same in all of its charts."""
    named = dict.fromkeys(str(run["variant"]) for run in runs if not run["plain"])
    colours = COLOURS[1:]
    return {
        variant: (colours[i % len(colours)], _SHAPES[i % len(_SHAPES)])
        for i, variant in enumerate(named)
    }


def _frontier(
    rows: Sequence[dict[str, Any]], title: str, looks: Mapping[str, tuple[str, str]]
) -> Spec:
    wires, fixups = _extent(rows, "wire"), _extent(rows, "fixups", of_zero=True)
    x = alt.X(
        "wire:Q", title="bytes on the wire, × single pages",
        scale=alt.Scale(domain=wires, nice=False),
    )  # fmt: skip
    y = alt.Y(
        "fixups:Q", title="fixup faults, × single pages",
        scale=alt.Scale(domain=fixups, nice=False),
    )  # fmt: skip
    tooltip = [
        alt.Tooltip("variant:N", title="variant"),
        alt.Tooltip("fixups:Q", format=".3f"),
        alt.Tooltip("wire:Q", format=".3f", title="bytes"),
        alt.Tooltip("tracking:Q", format=".3f", title="tracking time"),
        alt.Tooltip("downtime:Q", format=".3f"),
    ]
    plain, others = [r for r in rows if r["plain"]], [r for r in rows if not r["plain"]]
    layers: list[Any] = _spreads(rows, x, y)
    if plain:
        base = chart_of(plain).encode(x=x, y=y, tooltip=tooltip)
        layers.append(base.mark_line(color=COLOURS[0], point=True).encode(order="group_pages:Q"))
        for dy, named in _labelled(plain, wires, fixups).items():
            names = chart_of(named).mark_text(dy=dy, fontSize=10, color="currentColor")
            layers.append(names.encode(x=x, y=y, tooltip=tooltip, text="size:N"))
    if others:
        points = chart_of(others).mark_point(size=90, filled=True, opacity=1)
        names = list(dict.fromkeys(str(row["variant"]) for row in others))
        colours, shapes = (
            alt.Scale(domain=list(looks), range=list(each))
            for each in zip(*looks.values(), strict=True)
        )
        legend = legend_of(names)
        colour = alt.Color("variant:N", title=None, scale=colours, legend=legend)
        shape = alt.Shape("variant:N", title=None, scale=shapes, legend=legend)
        layers.append(points.encode(x=x, y=y, tooltip=tooltip, color=colour, shape=shape))
    return spec_of(alt.layer(*layers), title, _FRONTIER_PX)


def _extent(rows: Sequence[dict[str, Any]], name: str, *, of_zero: bool = False) -> list[float]:
    """Of an axis, with room at its ends for marks and labels."""
    least = 0.0 if of_zero else min(row[f"{name}_least"] for row in rows)
    most = max(row[f"{name}_most"] for row in rows)
    room = 0.06 * (most - least) or 0.05 * most or 1.0
    return [least - room, most + room]


def _labelled(
    rows: Sequence[dict[str, Any]], wires: Sequence[float], fixups: Sequence[float]
) -> dict[int, list[dict[str, Any]]]:
    """Rows whose label has room, by how far from its point: above, or else below.

    Reckoned for the narrowest chart: in a wider one labels only move apart. A size for which there
    is no room has none; what lies under the mouse says it, and the tables.
    """
    taken: list[tuple[float, float, float]] = []
    placed: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: int(row["group_pages"])):
        x = _NARROW_PX * (row["wire"] - wires[0]) / (wires[1] - wires[0])
        y = _FRONTIER_PX * (fixups[1] - row["fixups"]) / (fixups[1] - fixups[0])
        half = _LETTER_PX * len(row["size"]) / 2
        for dy in (_ABOVE_PX, _BELOW_PX):
            if all(
                abs(x - x2) > half + half2 or abs(y + dy - y2) > _LABEL_PX
                for x2, y2, half2 in taken
            ):
                taken.append((x, y + dy, half))
                placed.setdefault(dy, []).append(row)
                break
    return placed


def _spreads(rows: Sequence[dict[str, Any]], x: alt.X, y: alt.Y) -> list[Any]:
    """How far the seeds lie apart, where there are several; on the axes of the points.

    With axes of their own, which begin at 0, they would press the points into a corner.
    """
    layers: list[Any] = []
    wide = [r for r in rows if r["wire_least"] != r["wire_most"]]
    high = [r for r in rows if r["fixups_least"] != r["fixups_most"]]
    if wide:
        rule = chart_of(wide).mark_rule(color="currentColor", opacity=0.5)
        layers.append(rule.encode(x=_of(x, "wire_least"), x2="wire_most:Q", y=y))
    if high:
        rule = chart_of(high).mark_rule(color="currentColor", opacity=0.5)
        layers.append(rule.encode(y=_of(y, "fixups_least"), y2="fixups_most:Q", x=x))
    return layers


def _of(axis: Any, name: str) -> Any:
    """The same axis, of another column."""
    other = axis.copy()
    other.shorthand = f"{name}:Q"
    return other


def _causes(run: Repeated) -> list[dict[str, Any]]:
    """Percent of base time by cause; nothing of a cause that took none."""
    rows = []
    for cause in (*all_causes(), UNATTRIBUTED):
        found = run.spread(partial(_percent, cause))
        if found is not None and found.mean:
            rows.append(
                {"variant": run["variant"], "cause": CAUSE_LABELS[cause], "percent": found.mean}
            )
    return rows


def _percent(cause: str, run: Any) -> float | None:
    base_ns, cause_ns = run["base_ns"], run.get(f"time_{cause}_ns")
    return 100 * cause_ns / base_ns if base_ns and cause_ns is not None else None


def _bars(runs: Sequence[Repeated], rows: Sequence[dict[str, Any]], title: str) -> Spec:
    order = list(dict.fromkeys(str(run["variant"]) for run in runs))
    y = alt.Y("variant:N", title=None, sort=order, axis=alt.Axis(labelLimit=240))
    labels = list(CAUSE_LABELS.values())
    seen = {row["cause"] for row in rows}
    bars = (
        chart_of(rows)
        .mark_bar()
        .encode(
            x=alt.X("percent:Q", title="slowdown, %"),
            y=y,
            color=alt.Color(
                "cause:N", title=None,
                legend=legend_of([label for label in labels if label in seen]),
                scale=alt.Scale(domain=labels, range=[*COLOURS, "#B39DDB"]),
            ),
            order=alt.Order("rank:Q"),
            tooltip=["cause:N", "variant:N", alt.Tooltip("percent:Q", format=".3f", title="%")],
        )
        .transform_calculate(rank=f"indexof({labels!r}, datum.cause)")
    )  # fmt: skip
    ends = [row for run in runs if (row := _ends(run)) is not None]
    height = _ROW_PX * len(order) + _AXIS_PX
    if not ends:
        return spec_of(bars, title, height)
    rule = chart_of(ends).mark_rule(color="currentColor", strokeWidth=2)
    return spec_of(alt.layer(bars, rule.encode(x="least:Q", x2="most:Q", y=y)), title, height)


def _ends(run: Repeated) -> dict[str, Any] | None:
    """Least and most slowdown of the repetitions of a run."""
    found = run.spread("overhead_percent")
    if found is None or found.least == found.most:
        return None
    return {"variant": run["variant"], "least": found.least, "most": found.most}
