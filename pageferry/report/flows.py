"""The report of one migration's flow, and what a sweep's report takes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from pageferry.analysis.analysis import Analysis, analysis_of
from pageferry.analysis.epochs import make_epochs
from pageferry.analysis.flow import Flow, open_flow
from pageferry.analysis.sentences import conclusions
from pageferry.document import Document, Round
from pageferry.flow_directory import record_of
from pageferry.report.charts import COLOURS, Spec, chart_of, spec_of
from pageferry.report.page import Section, page
from pageferry.report.predictions import prediction_section
from pageferry.report.provenance import run_sections
from pageferry.run_record import Record
from pageferry.tables import CAUSE_LABELS

_TIME_BINS, _FRAME_BINS = 72, 64

# What happened where and when, counted in bins; `sent` splits into first time and again.
_MAP = """
WITH happened AS (
  SELECT time_ns, gfn, 'fixup faults' AS what FROM events WHERE kind = 'fixup'
  UNION ALL SELECT time_ns, gfn, 'opened with a group' FROM events WHERE kind = 'opened'
  UNION ALL SELECT time_ns, gfn,
    CASE WHEN row_number() OVER (PARTITION BY gfn ORDER BY time_ns) = 1
         THEN 'sent' ELSE 'sent again' END FROM sends
  UNION ALL SELECT sent_ns, gfn, 'sent too early' FROM false_dirty
    WHERE written_later AND sent_ns IS NOT NULL)
SELECT what, ((time_ns - $start) * $times // $span)::INT AS t,
       (gfn * $bins // $frames)::INT AS f, count(*) AS n
FROM happened GROUP BY ALL ORDER BY ALL
"""
_LAYERS = ("fixup faults", "opened with a group", "sent", "sent again", "sent too early")


def flow_report(directory: Path) -> str:
    """The HTML of a flow.

    Raises:
        BadResult: see `open_flow`.
    """
    with open_flow(directory) as flow:
        make_epochs(flow)
        analysis = analysis_of(flow)
        name = load_of(flow.document)
        sections = [
            *_sections(flow, name),
            Section("Slowdown by cause", charts=[_by_cause(analysis)]),
            Section(
                "Are neighbours of a dirtied frame dirtied soon?",
                "Of the frames at a distance that were clean when a frame was dirtied. The dashed "
                "line is the chance of any frame.",
                [*_neighbour_charts(name, analysis), _sizes(analysis), _working_set(analysis)],
            ),
            *prediction_section([(name, directory)]),
            *run_sections(_records(directory, flow.document), [flow.document["config"]]),
        ]
    return page(f"The flow of one migration: {name}", conclusions(analysis), sections)


def _records(directory: Path, document: Document) -> list[Record]:
    """What was run; of a flow that hosts elsewhere wrote what the result itself says."""
    kept = record_of(directory)
    if kept is not None:
        return [kept]
    if "run" not in document:
        return []
    run = document["run"]
    return [
        {
            "command": run["command"],
            "pageferry": run["pageferry"],
            "date": run.get("date", ""),
            "machine": run.get("machine", ""),
        }
    ]


def flow_sections(directory: Path, name: str) -> list[Section]:
    """Map and rounds of a flow, for the report of a sweep."""
    with open_flow(directory) as flow:
        make_epochs(flow)
        analysis_of(flow)
        return _sections(flow, name)


def neighbour_charts(name: str, directory: Path) -> list[Spec]:
    """The neighbour curves of a flow."""
    with open_flow(directory) as flow:
        make_epochs(flow)
        return _neighbour_charts(name, analysis_of(flow))


def load_of(document: Document) -> str:
    """What the guest ran, in a word."""
    config = document["config"]
    if config["trace"]:
        return str(config["trace"]["file"]).removesuffix(".parquet")
    return str(config["workload"]).partition(":")[0]


def _sections(flow: Flow, name: str) -> list[Section]:
    return [
        Section(
            f"{name}: frames and time",
            "Guest frames from bottom to top, virtual time from left to right; the stronger "
            "the colour, the more frames of the bin.",
            _maps(flow),
        ),
        Section(f"{name}: rounds", charts=_rounds(flow.document)),
    ]


def _maps(flow: Flow) -> list[Spec]:
    span = flow.row("SELECT min(time_ns) AS start, max(time_ns) AS until FROM moments")
    length = max(1, span["until"] - span["start"] + 1)
    cells = flow.rows(
        _MAP, start=span["start"], span=length, times=_TIME_BINS, bins=_FRAME_BINS,
        frames=flow.n_frames,
    )  # fmt: skip
    seen = {cell["what"] for cell in cells}
    return [
        _map(cells, what, COLOURS[i], length, flow)
        for i, what in enumerate(_LAYERS)
        if what in seen
    ]


def _map(cells: list[dict[str, Any]], what: str, colour: str, length_ns: int, flow: Flow) -> Spec:
    to_ms, to_gfn = length_ns / _TIME_BINS / 1e6, flow.n_frames / _FRAME_BINS
    rows = [
        {
            "t": round(c["t"] * to_ms, 4), "t2": round((c["t"] + 1) * to_ms, 4),
            "f": int(c["f"] * to_gfn), "f2": int((c["f"] + 1) * to_gfn), "n": c["n"],
        }
        for c in cells
        if c["what"] == what and 0 <= c["t"] < _TIME_BINS
    ]  # fmt: skip
    chart = (
        chart_of(rows)
        .mark_rect(color=colour)
        .encode(
            x=alt.X("t:Q", title="time, ms", scale=alt.Scale(domain=[0, length_ns / 1e6])),
            x2="t2:Q",
            y=alt.Y("f:Q", title="guest frame", scale=alt.Scale(domain=[0, flow.n_frames])),
            y2="f2:Q",
            opacity=alt.Opacity("n:Q", scale=alt.Scale(type="sqrt", range=[0.2, 1]), legend=None),
            tooltip=[alt.Tooltip("t:Q", title="ms"), "f:Q", alt.Tooltip("n:Q", title="frames")],
        )
    )
    return spec_of(chart, what, 200)


def _rounds(document: Document) -> list[Spec]:
    kinds = (("data", "with content"), ("zero", "zero"), ("suppressed", "unchanged: a digest"))
    rows = [
        {"round": _round_name(r), "what": label, "frames": r[key]}  # type: ignore[literal-required]
        for r in document["rounds"] for key, label in kinds
    ]  # fmt: skip
    dirty = [
        {"round": _round_name(r), "dirty": r["dirty"], "wire": r["wire_bytes"] / 1e6,
         "rate": r["wire_bytes"] * 8 / r["duration_s"] / 1e6 if r["duration_s"] else 0}
        for r in document["rounds"]
    ]  # fmt: skip
    order = [_round_name(r) for r in document["rounds"]]
    x = alt.X("round:N", title="round", sort=order, axis=alt.Axis(labelAngle=0))
    sent = (
        chart_of(rows).mark_bar()
        .encode(x=x, y=alt.Y("frames:Q", title="frames sent"),
                color=alt.Color("what:N", title=None, sort=[label for _, label in kinds]),
                tooltip=["round:N", "what:N", "frames:Q"])
    )  # fmt: skip
    found = (
        chart_of(dirty).mark_point(shape="diamond", size=70, filled=True,
                                                     color="currentColor")
        .encode(x=x, y=alt.Y("dirty:Q"), tooltip=[alt.Tooltip("dirty:Q", title="dirty after it")])
    )  # fmt: skip
    wire = (
        chart_of(dirty).mark_bar(color=COLOURS[0])
        .encode(x=x, y=alt.Y("wire:Q", title="on the wire, MB"),
                tooltip=["round:N", alt.Tooltip("wire:Q", format=".2f", title="MB"),
                         alt.Tooltip("rate:Q", format=".0f", title="Mbit/s")])
    )  # fmt: skip
    return [
        spec_of(alt.layer(sent, found), "frames by round; diamonds: dirty after it"),
        spec_of(wire, "bytes by round"),
    ]


def _round_name(done: Round) -> str:
    if done.get("repair"):
        return f"{done['round']} (repair)"
    return f"{done['round']}{' (paused)' if done['stop_and_copy'] else ''}"


def _by_cause(analysis: Analysis) -> Spec:
    base = analysis["slowdown"]["base_ns"] or 1
    # A cause that took nothing is none: what shadow paging has is not listed under HAP.
    rows = [
        {"cause": CAUSE_LABELS[cause], "percent": 100 * ns / base}
        for cause, ns in analysis["slowdown"]["by_cause_ns"].items()
        if ns
    ]
    chart = (
        chart_of(rows).mark_bar(color=COLOURS[3])
        .encode(x=alt.X("percent:Q", title="slowdown, %"),
                y=alt.Y("cause:N", title=None, sort="-x"),
                tooltip=["cause:N", alt.Tooltip("percent:Q", format=".3f", title="%")])
    )  # fmt: skip
    return spec_of(chart, "guest time by cause")


def _neighbour_charts(name: str, analysis: Analysis) -> list[Spec]:
    found = analysis["neighbours"]
    rows = []
    for at in found["by_distance"]:
        rows += [
            {"distance": at["distance"], "when": f"within {ms} ms", "percent": 100 * share}
            for ms, share in at["within_ms"].items()
        ]
        rows.append(
            {"distance": at["distance"], "when": "same round", "percent": 100 * at["in_epoch"]}
        )
    curves = (
        chart_of(rows).mark_line(point=True)
        .encode(x=alt.X("distance:Q", title="frames away", scale=alt.Scale(type="log", base=2)),
                y=alt.Y("percent:Q", title="dirtied too, %", scale=alt.Scale(domain=[0, 100])),
                color=alt.Color("when:N", title=None, sort=None),
                tooltip=["distance:Q", "when:N", alt.Tooltip("percent:Q", format=".1f")])
    )  # fmt: skip
    rule = (
        chart_of([{"percent": 100 * found["baseline"]}])
        .mark_rule(strokeDash=[4, 4], color="currentColor").encode(y="percent:Q")
    )  # fmt: skip
    return [spec_of(alt.layer(curves, rule), name)]


def _sizes(analysis: Analysis) -> Spec:
    labels = {
        "guest": "guest alone",
        "with_suppression": "link binds, digests",
        "without_suppression": "link binds, pages",
    }
    rows = [
        {"n": at["n"], "case": labels[case], "ms": ns / 1e6,
         "least": at["cost_least_ns"][case] / 1e6}
        for at in analysis["group_size"]["curve"] for case, ns in at["cost_ns"].items()
        if at["cost_least_ns"][case] > 0
    ]  # fmt: skip
    x = alt.X("n:Q", title="pages in a group", scale=alt.Scale(type="log", base=2))
    y = alt.Y("ms:Q", title="cost, ms", scale=alt.Scale(type="log"))
    colour = alt.Color("case:N", title=None, sort=None)
    lines = (
        chart_of(rows).mark_line(point=True)
        .encode(x=x, y=y, color=colour,
                tooltip=["n:Q", "case:N", alt.Tooltip("ms:Q", format=".3f", title="at most, ms"),
                         alt.Tooltip("least:Q", format=".3f", title="at least, ms")])
    )  # fmt: skip
    unsure = [row for row in rows if row["least"] < row["ms"]]
    bands = chart_of(unsure).mark_area(opacity=0.2).encode(x=x, y=y, y2="least:Q", color=colour)
    return spec_of(
        alt.layer(bands, lines), "groups of n on the same writes, estimated; bands: not known"
    )


def _working_set(analysis: Analysis) -> Spec:
    rows = [
        {"window": row["window_ms"], "what": what, "frames": row[key]}
        for row in analysis["working_set"]
        for key, what in (("mean", "mean"), ("most", "most"))
        if row[key] > 0
    ]
    windows = sorted({row["window"] for row in rows})
    chart = (
        chart_of(rows)
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "window:Q",
                title="window, ms",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=windows, format="~g"),
            ),
            y=alt.Y(
                "frames:Q",
                title="distinct frames dirtied",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format="~s", tickCount=6),
            ),
            color=alt.Color("what:N", title=None, sort=None),
            tooltip=["window:Q", "what:N", alt.Tooltip("frames:Q", format=",.0f")],
        )
    )
    return spec_of(chart, "writable working set by window")
