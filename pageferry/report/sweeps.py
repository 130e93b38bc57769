"""The report of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc

from pageferry.report.charts import COLOURS, Spec, chart_of, spec_of
from pageferry.report.flows import flow_sections, neighbour_charts
from pageferry.report.page import Section, page
from pageferry.report.predictions import prediction_section
from pageferry.report.runs import runs_table
from pageferry.report.variants import compared, totals
from pageferry.report.verdict import verdict
from pageferry.results import BadResult
from pageferry.sweep.directory import existing
from pageferry.tables import CAUSE_LABELS
from paging_core.events import CAUSES

_MAPS = 2
"""Flow traces that are drawn whole; of the others only the neighbour curves."""


def sweep_report(directory: Path) -> str:
    """The HTML of a sweep's results.

    Raises:
        BadResult: no sweep, or none of its points completed.
    """
    sweep = existing(directory)
    table = sweep.read_table()
    runs = compared(table)
    if not runs.num_rows:
        raise BadResult(
            f"no point of the sweep in {directory} completed; see the errors in its "
            "results.parquet, or run it"
        )
    flows = _flows(directory, runs)
    sections = [
        Section(
            "Faults against bytes",
            "All loads together, each run against single pages of the same paging. Down and left "
            "is better: fewer fixup faults, fewer bytes on the wire. The line follows fixed "
            "groups of n = 1 … 1024; points are what could be done instead.",
            [_frontier(totals(runs), p, s) for p in ("shadow", "hap") for s in (True, False)],
            wide=True,
        ),
        Section(
            "Slowdown by cause",
            "Guest time spent because of tracking, as a share of what the guest itself ran; the "
            "mean over all loads, then each load. Groups shrink the fixups; the rebuilding of "
            "shadows after each clean is what they cannot reach.",
            [*_means(runs), *_each(runs)],
        ),
    ]
    if flows:
        sections.append(
            Section(
                "Are neighbours of a dirtied frame dirtied soon?",
                "Of the frames at a distance that were clean when a frame was dirtied: how many "
                "became dirty in the same round, by distance and by delay. The dashed line is the "
                "chance of any frame.",
                [chart for load, flow in flows for chart in neighbour_charts(load, flow)],
            )
        )
        for load, flow in (_flows(directory, runs, grouped=True) or flows)[:_MAPS]:
            sections += flow_sections(flow, load)
    sections += prediction_section(flows)
    sections.append(
        Section(
            "Every run",
            "Click on a heading to sort; the command repeats a run alone.",
            table=runs_table(table, runs),
        )
    )
    return page("Page groups: what the sweep says", verdict(runs), sections)


def _flows(directory: Path, runs: pa.Table, *, grouped: bool = False) -> list[tuple[str, Path]]:
    """The flow traces of single pages, or of groups, by load; recorded programs first."""
    found: dict[str, Path] = {}
    for row in runs.select(["point", "load", "trace", "group_pages"]).to_pylist():
        flow = directory / "flows" / row["point"]
        if (row["group_pages"] != 1) == grouped and (flow / "result.json").exists():
            found.setdefault(("" if row["trace"] else "~") + row["load"], flow)
    return [(name.removeprefix("~"), flow) for name, flow in sorted(found.items())]


def _frontier(sums: pa.Table, paging: str, suppress: bool) -> Spec:
    mask = pc.and_(pc.equal(sums["paging"], paging), pc.equal(sums["suppress"], suppress))
    rows = sums.filter(mask)
    base = chart_of(rows).encode(
        x=alt.X("wire:Q", title="bytes on the wire, × single pages", scale=alt.Scale(zero=False)),
        y=alt.Y("fixups:Q", title="fixup faults, × single pages"),
        tooltip=[
            alt.Tooltip("variant:N", title="variant"),
            alt.Tooltip("fixups:Q", format=".3f"),
            alt.Tooltip("wire:Q", format=".3f", title="bytes"),
            alt.Tooltip("tracking:Q", format=".3f", title="tracking time"),
            alt.Tooltip("downtime:Q", format=".3f"),
        ],
    )
    plain = base.transform_filter("datum.plain")
    others = base.transform_filter("!datum.plain")
    line = plain.mark_line(color=COLOURS[0], point=True).encode(order="group_pages:Q")
    names = plain.mark_text(dy=-9, fontSize=10, color="currentColor").encode(text="group_pages:N")
    points = others.mark_point(size=90, filled=True).encode(
        color=alt.Color("variant:N", title=None),
        shape=alt.Shape("variant:N", title=None),
    )
    kind = "suppression" if suppress else "no suppression"
    return spec_of(alt.layer(line, names, points), f"{paging}, {kind}", 300)


def _stacked(rows: pa.Table, title: str) -> Spec:
    """Bars of a table with columns size, order, cause, percent."""
    chart = (
        chart_of(rows)
        .mark_bar()
        .encode(
            x=alt.X("size:N", title="pages in a group", sort=alt.SortField("order"),
                    axis=alt.Axis(labelAngle=0)),
            y=alt.Y("sum(percent):Q", title="slowdown, %"),
            color=alt.Color("cause:N", title=None, legend=alt.Legend(columns=2),
                            scale=alt.Scale(domain=list(CAUSE_LABELS.values()),
                                            range=[*COLOURS, "#444444"])),
            tooltip=["cause:N", "size:N", alt.Tooltip("percent:Q", format=".3f", title="%")],
        )
    )  # fmt: skip
    return spec_of(chart, title)


def _causes(runs: pa.Table, paging: str) -> pa.Table:
    """Per load, size and cause: percent of base time."""
    rows = []
    for run in runs.to_pylist():
        fixed = run["plain"] or run["variant"] == "adaptive"
        if run["paging"] != paging or not run["suppress"] or not fixed or not run["base_ns"]:
            continue
        size = "adaptive" if run["group_pages"] == 0 else str(run["group_pages"])
        order = run["group_pages"] or 1 << 20
        for cause in CAUSES:
            percent = 100 * run[f"time_{cause}_ns"] / run["base_ns"]
            if percent:
                rows.append({"load": run["load"], "size": size, "order": order,
                             "cause": CAUSE_LABELS[cause], "percent": percent})  # fmt: skip
    return pa.Table.from_pylist(
        rows,
        pa.schema({"load": pa.string(), "size": pa.string(), "order": pa.int64(),
                   "cause": pa.string(), "percent": pa.float64()}),
    )  # fmt: skip


def _means(runs: pa.Table) -> list[Spec]:
    charts = []
    for paging in ("shadow", "hap"):
        rows = _causes(runs, paging)
        if not rows.num_rows:
            continue
        n_loads = len(pc.unique(rows["load"]))
        mean = rows.group_by(["size", "order", "cause"]).aggregate([("percent", "sum")])
        shares = pc.divide(mean["percent_sum"], n_loads)
        mean = mean.drop_columns(["percent_sum"]).append_column("percent", shares)
        charts.append(_stacked(mean, f"{paging}, mean of {n_loads} loads"))
    return charts


def _each(runs: pa.Table) -> list[Spec]:
    by_paging = {paging: _causes(runs, paging) for paging in ("shadow", "hap")}
    loads: Sequence[str] = sorted(
        {load for rows in by_paging.values() for load in pc.unique(rows["load"]).to_pylist()}
    )
    return [
        _stacked(rows.filter(pc.equal(rows["load"], load)), f"{load}, {paging}")
        for load in loads
        for paging, rows in by_paging.items()
    ]
