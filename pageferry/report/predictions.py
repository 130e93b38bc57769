"""How far off each model was, for the migrations whose predictions lie beside their flow."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import altair as alt

from pageferry import results
from pageferry.damage import computing_from
from pageferry.flow_directory import RESULT
from pageferry.predict.prediction import Prediction, errors
from pageferry.report.charts import Spec, chart_of, spec_of
from pageferry.report.page import Section
from pageferry.results import BadResult
from paging_core.reading import read_json

PREDICTIONS = "predictions.json"
_MEASURES = {"total_s": "total time", "bytes_wire": "bytes on the wire", "downtime_s": "downtime"}

_Off = dict[str, str | float]


def prediction_section(flows: Sequence[tuple[str, Path]]) -> list[Section]:
    """Errors by load and model; nothing if nothing was predicted."""
    off = [row for load, flow in flows for row in _errors(load, flow)]
    if not off:
        return []
    return [
        Section(
            "Predictions against what was measured",
            "Three models that were shown another run of the same load: AVG (a constant dirty "
            "rate), HIST (the history of an earlier run), and a rehearsal under the same tracker. "
            "The relative error is (predicted − measured) / measured: 0 is right, and +1 twice as "
            "much as was measured.",
            [_chart(off, measure, title) for measure, title in _MEASURES.items()],
            table=_table(off),
        )
    ]


def _errors(load: str, flow: Path) -> list[_Off]:
    if not (flow / PREDICTIONS).exists():
        return []
    document = results.read(flow / RESULT)
    file = flow / PREDICTIONS
    said = read_json(file, BadResult, way_out="predict again")
    with computing_from(str(file), f"write it again with pageferry predict --json {file}"):
        return [
            {"load": load, "model": str(each["model"]), **errors(Prediction(**each), document)}
            for each in said["predictions"]
        ]


def _chart(off: Sequence[_Off], measure: str, title: str) -> Spec:
    # The same colour for a model in every chart, whether all of them can be drawn or not.
    models = list(dict.fromkeys(str(row["model"]) for row in off))
    points = (
        chart_of([row for row in off if abs(float(row[measure])) != float("inf")])
        .mark_point(size=60, filled=True)
        .encode(
            x=alt.X(
                f"{measure}:Q", title="relative error",
                scale=alt.Scale(type="symlog", constant=0.1),
            ),
            y=alt.Y("load:N", title=None),
            color=alt.Color("model:N", title=None, scale=alt.Scale(domain=models)),
            shape=alt.Shape("model:N", title=None, scale=alt.Scale(domain=models)),
            tooltip=["load:N", "model:N", alt.Tooltip(f"{measure}:Q", format="+.3f")],
        )
    )  # fmt: skip
    return spec_of(points, title, 260)


def _table(off: Sequence[_Off]) -> str:
    heads = "".join(f"<th>{title}</th>" for title in ("rounds", *_MEASURES.values()))
    body = "".join(
        f'<tr><td class="text">{html.escape(str(row["load"]))}</td>'
        f'<td class="text">{html.escape(str(row["model"]))}</td>'
        + "".join(
            f'<td data-value="{row[name]}">{100 * float(row[name]):+.0f} %</td>'
            for name in ("rounds", *_MEASURES)
        )
        + "</tr>"
        for row in off
    )
    return (
        '<table><thead><tr><th class="text">load</th><th class="text">model</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table>"
    )
