"""How every chart looks: one column wide, labelled with units, readable by everybody.

Colours are Okabe and Ito's, which the colour-blind can tell apart, on light and on dark;
lines and text take the colour of the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, cast

import altair as alt
import pyarrow as pa

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#888888")
_INK = "currentColor"
_CONFIG = {
    "background": "transparent",
    # The last label of an axis reaches beyond it.
    "padding": {"left": 5, "top": 5, "right": 18, "bottom": 5},
    "font": "system-ui, sans-serif",
    "view": {"stroke": "transparent"},
    "axis": {
        "labelColor": _INK, "titleColor": _INK, "tickColor": _INK, "domainColor": _INK,
        "gridColor": _INK, "gridOpacity": 0.12, "labelFontSize": 11, "titleFontSize": 11,
        "titleFontWeight": "normal", "labelSeparation": 6,
    },
    # No label of an axis touches its neighbour: ends stay where their ticks are, and where there
    # is no room every other label goes.
    "axisX": {"labelFlush": False, "labelOverlap": "greedy"},
    "axisY": {"labelFlush": False, "labelOverlap": "greedy"},
    "legend": {
        "labelColor": _INK, "titleColor": _INK, "labelFontSize": 10, "titleFontSize": 10,
        "orient": "bottom", "columns": 2, "titleFontWeight": "normal", "symbolStrokeWidth": 2,
        "symbolSize": 60, "columnPadding": 8, "symbolOpacity": 1,
    },
    "title": {"color": _INK, "fontSize": 13, "anchor": "start", "fontWeight": "bold",
              "lineBreak": "\n"},
    "range": {"category": list(COLOURS)},
}  # fmt: skip

_TITLE_CHARS = 44
"""As many letters of a title fit beside each other on a phone."""
_TWO_COLUMNS_CHARS = 22
"""With longer names than this a legend has one column: two would not fit on a phone."""

Spec = dict[str, Any]


def spec_of(chart: Any, title: str, height: int = 220) -> Spec:
    """The Vega-Lite specification of a chart as wide as its place."""
    title = "\n".join(textwrap.wrap(title, _TITLE_CHARS))
    sized = chart.properties(title=title, width="container", height=height)
    spec: Spec = sized.to_dict()
    spec["config"] = _CONFIG
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def chart_of(rows: pa.Table | Sequence[Mapping[str, Any]]) -> alt.Chart:
    """A chart of these rows, which go with it."""
    values = rows.to_pylist() if isinstance(rows, pa.Table) else list(rows)
    return alt.Chart(cast("Any", alt).Data(values=values))


def legend_of(names: Sequence[str]) -> alt.Legend:
    """A legend of these names and no others, in as many columns as a phone has room for."""
    long = max(map(len, names), default=0) > _TWO_COLUMNS_CHARS
    return alt.Legend(values=list(names), columns=1 if long else 2, labelLimit=300)


def without_empty(spec: Spec) -> Spec | None:
    """A chart without the layers that have no rows; None if nothing is left to draw.

    Vega gives a layer without rows an infinite extent: a page of it is millions of pixels high.
    """
    if "layer" not in spec:
        return spec if _has_rows(spec, spec) else None
    layers = [layer for layer in spec["layer"] if _has_rows(layer, spec)]
    return {**spec, "layer": layers} if layers else None


def _has_rows(part: Spec, spec: Spec) -> bool:
    data = part.get("data") or spec.get("data") or {}
    rows = data["values"] if "values" in data else spec.get("datasets", {}).get(data.get("name"))
    return bool(rows)
