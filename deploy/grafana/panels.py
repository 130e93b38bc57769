"""The kinds of panels that the dashboards are made of.

None can be made without a description and a unit: what a figure means is not to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, units
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
HALF, THIRD, QUARTER, WHOLE = 12, 8, 6, 24

BYTES_PER_S = units.BytesPerSecondIEC
BYTES = units.BytesIEC
PER_S = units.CountsPerSecond
SECONDS = units.Seconds
SHARE = units.PercentUnit
COUNT = units.Short

AnyPanel = Builder[dashboard.Panel]


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: of each series.
        exemplars: show the samples' exemplars: they name their migration.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


def graph(
    title: str,
    description: str,
    unit: str,
    axis: str,
    queries: Sequence[Query],
    *,
    width: int = HALF,
    stacked: bool = False,
    steps: bool = False,
    limit: float | None = None,
) -> AnyPanel:
    """Lines over time.

    Args:
        title: what is shown.
        description: what it means and what to do about it.
        unit: one of Grafana's.
        axis: what the axis counts, beside its unit.
        queries: what to draw.
        width: of 24 columns.
        stacked: the series are parts of a whole.
        steps: a value holds until the next.
        limit: drawn as a red line; what lies above it is bad.
    """
    panel = _described(timeseries.Panel(), title, description, unit, width)
    panel = panel.height(8).axis_label(axis).fill_opacity(10).min(0)
    panel = panel.show_points(common.VisibilityMode.AUTO)
    panel = panel.tooltip(
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    # The SDK hides the legend as soon as any other option is set.
    panel = panel.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    if stacked:
        panel = panel.fill_opacity(40).stacking(
            common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
        )
    if steps:
        panel = panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    if limit is not None:
        panel = panel.thresholds(_bad_from(limit)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        )
    for name, query in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(query, name).range())
    return panel


def figure(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = QUARTER,
    limit: float | None = None,
) -> AnyPanel:
    """The last value as a number, with its course behind it.

    Args:
        title: what is shown.
        description: what it means.
        unit: one of Grafana's.
        query: the value.
        width: of 24 columns.
        limit: from which on it is red.
    """
    panel = _described(stat.Panel(), title, description, unit, width)
    panel = panel.height(4).color_mode(common.BigValueColorMode.VALUE)
    panel = panel.graph_mode(common.BigValueGraphMode.AREA)
    panel = panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    # Without any, Grafana's own would be red from 80 on, whatever the unit.
    panel = panel.thresholds(_bad_from(limit))
    return panel.with_target(_target(query, "A").range())


def listing(
    title: str,
    description: str,
    query: Query,
    *,
    hidden: Sequence[str],
    width: int = WHOLE,
    links: Sequence[tuple[str, str]] = (),
) -> AnyPanel:
    """Series as rows, their labels as columns.

    Args:
        title: what is shown.
        description: what it means.
        query: evaluated at the end of the time range.
        hidden: columns that tell nothing.
        width: of 24 columns.
        links: title and address of where a row leads.
    """
    panel = _described(table.Panel(), title, description, COUNT, width).height(7)
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"excludeByName": dict.fromkeys(hidden, True)}
        )
    )
    if links:
        panel = panel.data_links(
            [dashboard_builders.DashboardLink(name).url(url) for name, url in links]
        )
    target = _target(query, "A").instant().format(PromQueryFormat.TABLE)
    return panel.with_target(target)


class _Describable(Protocol):
    """What every panel builder of the SDK has in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def span(self, w: int) -> Self: ...
    def datasource(self, datasource: dashboard.DataSourceRef) -> Self: ...


_Panel = TypeVar("_Panel", bound=_Describable)


def _described(panel: _Panel, title: str, description: str, unit: str, width: int) -> _Panel:
    described = panel.title(title).description(description).unit(unit)
    return described.span(width).datasource(DATASOURCE)


def _target(query: Query, ref_id: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref_id).datasource(DATASOURCE)
    target = target.exemplar(query.exemplars)
    return target.legend_format(query.legend) if query.legend else target


def _bad_from(limit: float | None) -> ThresholdsConfig:
    steps = [dashboard.Threshold(None, "green")]
    if limit is not None:
        steps.append(dashboard.Threshold(limit, "red"))
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
