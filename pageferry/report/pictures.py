"""The charts of a sweep: faults against bytes, and slowdown by cause; one for each load.

A chart of which nothing could be drawn is not made: a layer without rows has no extent, and Vega
makes a page of it that is as high as a number can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import altair as alt

from pageferry.report.charts import COLOURS, Spec, chart_of, spec_of
from pageferry.report.repeats import Repeated
from pageferry.sweep.settings import ADAPTIVE_PAGES, BY_NAME
from pageferry.tables import CAUSE_LABELS
from paging_core.events import CAUSES

_ROW_PX, _AXIS_PX = 22, 60


def frontiers(runs: Iterable[Repeated]) -> list[Spec]:
    """Fixup faults against bytes, both against single pages: a chart for each load and place."""
    charts = []
    for title, mine in _by_title(runs).items():
        rows = [row for run in mine if (row := _place(run)) is not None]
        if len({(row["wire"], row["fixups"]) for row in rows}) > 1:
            charts.append(_frontier(rows, title))
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
    tracking, downtime = run.spread("tracking"), run.spread("downtime")
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


def _frontier(rows: Sequence[dict[str, Any]], title: str) -> Spec:
    x = alt.X("wire:Q", title="bytes on the wire, × single pages", scale=alt.Scale(zero=False))
    y = alt.Y("fixups:Q", title="fixup faults, × single pages")
    tooltip = [
        alt.Tooltip("variant:N", title="variant"),
        alt.Tooltip("fixups:Q", format=".3f"),
        alt.Tooltip("wire:Q", format=".3f", title="bytes"),
        alt.Tooltip("tracking:Q", format=".3f", title="tracking time"),
        alt.Tooltip("downtime:Q", format=".3f"),
    ]
    plain, others = [r for r in rows if r["plain"]], [r for r in rows if not r["plain"]]
    layers: list[Any] = _spreads(rows)
    if plain:
        base = chart_of(plain).encode(x=x, y=y, tooltip=tooltip)
        line = base.mark_line(color=COLOURS[0], point=True).encode(order="group_pages:Q")
        names = base.mark_text(dy=-9, fontSize=10, color="currentColor").encode(text="size:N")
        layers += [line, names]
    if others:
        points = chart_of(others).mark_point(size=90, filled=True)
        colour = alt.Color("variant:N", title=None, sort=None)
        shape = alt.Shape("variant:N", title=None, sort=None)
        layers.append(points.encode(x=x, y=y, tooltip=tooltip, color=colour, shape=shape))
    return spec_of(alt.layer(*layers), title, 300)


def _spreads(rows: Sequence[dict[str, Any]]) -> list[Any]:
    """How far the seeds lie apart, where there are several."""
    layers: list[Any] = []
    wide = [r for r in rows if r["wire_least"] != r["wire_most"]]
    high = [r for r in rows if r["fixups_least"] != r["fixups_most"]]
    if wide:
        rule = chart_of(wide).mark_rule(color="currentColor", opacity=0.5)
        layers.append(rule.encode(x="wire_least:Q", x2="wire_most:Q", y="fixups:Q"))
    if high:
        rule = chart_of(high).mark_rule(color="currentColor", opacity=0.5)
        layers.append(rule.encode(y="fixups_least:Q", y2="fixups_most:Q", x="wire:Q"))
    return layers


def _causes(run: Repeated) -> list[dict[str, Any]]:
    """Percent of base time by cause; nothing of a cause that took none."""
    rows = []
    for cause in CAUSES:
        found = run.spread(partial(_percent, cause))
        if found is not None and found.most:
            rows.append(
                {"variant": run["variant"], "cause": CAUSE_LABELS[cause], "percent": found.mean}
            )
    return rows


def _percent(cause: str, run: Any) -> float | None:
    base_ns = run["base_ns"]
    return 100 * run[f"time_{cause}_ns"] / base_ns if base_ns else None


def _bars(runs: Sequence[Repeated], rows: Sequence[dict[str, Any]], title: str) -> Spec:
    order = list(dict.fromkeys(str(run["variant"]) for run in runs))
    y = alt.Y("variant:N", title=None, sort=order, axis=alt.Axis(labelLimit=150))
    labels = list(CAUSE_LABELS.values())
    seen = {row["cause"] for row in rows}
    bars = (
        chart_of(rows)
        .mark_bar()
        .encode(
            x=alt.X("percent:Q", title="slowdown, %"),
            y=y,
            color=alt.Color(
                "cause:N", title=None, legend=alt.Legend(columns=2, values=[
                    label for label in labels if label in seen]),
                scale=alt.Scale(domain=labels, range=[*COLOURS, "#444444"]),
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
