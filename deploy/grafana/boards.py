"""A dashboard: its variables, its annotations, its rows of panels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from deploy.grafana.panels import DATASOURCE, AnyPanel

HOSTS = 'job=~"pageferry-(source|destination)"'
_MOMENTS = (
    ("Round starts", "round", "blue"),
    ("Guest suspended", "suspend", "orange"),
    ("Guest handed over", "handover", "green"),
)


class Board:
    """One dashboard on its way to JSON.

    Attributes:
        name: of its file, and of its address after ``pageferry-``.
    """

    def __init__(self, name: str, title: str, description: str, *, refresh: str) -> None:
        """Without panels yet.

        Args:
            name: short.
            title: for display.
            description: what it is for.
            refresh: how often Grafana asks again.
        """
        self.name = name
        self._dashboard = (
            builders.Dashboard(title)
            .uid(f"pageferry-{name}")
            .description(description)
            .tags(["pageferry"])
            .editable()
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .refresh(refresh)
            .time("now-15m", "now")
            .timezone("browser")
            .with_variable(
                builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
            )
            .link(
                builders.DashboardLink("Pageferry")
                .type(dashboard.DashboardLinkType.DASHBOARDS)
                .tags(["pageferry"])
                .as_dropdown(True)
                .include_vars(True)
                .keep_time(True)
            )
        )
        for label, moment, colour in _MOMENTS:
            self._annotate(label, moment, colour)
        self.variable("host", "Host", f"label_values(up{{{HOSTS}}}, instance)")

    def variable(self, name: str, label: str, query: str) -> None:
        """Let users choose, of what Prometheus knows in the time shown.

        Args:
            name: without the dollar.
            label: for display.
            query: Grafana's ``label_values``.
        """
        everything = dashboard.VariableOption(selected=True, text="All", value="$__all")
        self._dashboard.with_variable(
            builders.QueryVariable(name)
            .label(label)
            .query(query)
            .datasource(DATASOURCE)
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(everything)
        )

    def row(self, title: str, panels: Sequence[AnyPanel]) -> None:
        """Add a heading and panels below it."""
        self._dashboard.with_row(builders.Row(title))
        for panel in panels:
            self._dashboard.with_panel(panel)

    def document(self) -> dict[str, Any]:
        """As Grafana reads it."""
        document: dict[str, Any] = json.loads(JSONEncoder().encode(self._dashboard.build()))
        for number, panel in enumerate(document["panels"], 1):
            panel["id"] = number
        for annotation in document["annotations"]["list"]:
            # The SDK has no field for these: the value is the time, and it is looked for each
            # second, or rounds would be missed.
            annotation.update(
                useValueForTime=True,
                step="1s",
                titleFormat=annotation["name"],
                textFormat="{{instance}}",
            )
        return document

    def text(self) -> str:
        """As it is checked in."""
        return json.dumps(self.document(), indent=2, sort_keys=True) + "\n"

    def _annotate(self, label: str, moment: str, colour: str) -> None:
        expr = (
            f'pageferry_source_last_moment_timestamp_seconds{{instance=~"$host", '
            f'moment="{moment}"}} * 1000 > 0'
        )
        self._dashboard.annotation(
            builders.AnnotationQuery()
            .name(label)
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color(colour)
            .expr(expr)
        )
