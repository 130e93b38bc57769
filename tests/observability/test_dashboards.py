"""Dashboards are what the code says, and nothing on them has to be guessed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.deployed import (
    GRAFANA,
    PROMETHEUS,
    ROOT,
    dashboards,
    families,
    fill,
    metrics_documented,
    panels,
    promtool,
    queries,
    read,
)

PANELS = [(name, panel) for name, board in dashboards().items() for panel in panels(board)]
IDS = [f"{name}: {panel['title']}" for name, panel in PANELS]


def test_what_is_checked_in_is_what_the_code_says() -> None:
    """`make dashboards` writes them."""
    command = [sys.executable, "-m", "deploy.grafana", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_the_three_that_alerts_and_pages_speak_of() -> None:
    assert {board["uid"] for board in dashboards().values()} == {
        "pageferry-migration", "pageferry-paging", "pageferry-fleet",
    }  # fmt: skip


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=IDS)
def test_a_panel_says_what_it_shows_and_in_what_unit(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 30
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    if panel["type"] == "timeseries":
        assert defaults["custom"]["axisLabel"]
        assert panel["options"]["legend"]["showLegend"]
    if panel["type"] == "stat":
        assert defaults["thresholds"]["steps"][0] == {"color": "green", "value": None}
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target.get("legendFormat") or panel["type"] == "table"
    assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_lets_one_choose_prometheus_and_host(name: str) -> None:
    board = dashboards()[name]
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["host"]["datasource"]["uid"] == "${datasource}"
    for where, expr in queries(board):
        assert "$host" in expr or "ALERTS" in expr, where
        assert set(re.findall(r"\$(\w+)", expr)) <= {*variables, "__rate_interval", "__range"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert board["title"]


@pytest.mark.parametrize("name", dashboards())
def test_rounds_suspends_and_hand_overs_are_marked_at_their_own_time(name: str) -> None:
    marked = dashboards()[name]["annotations"]["list"]
    moments = [re.search(r'moment="(\w+)"', one["expr"]) for one in marked]
    assert [moment and moment[1] for moment in moments] == ["round", "suspend", "handover"]
    for one in marked:
        assert one["enable"]
        assert one["useValueForTime"]
        assert "* 1000" in one["expr"]  # Grafana takes milliseconds
        assert one["step"] == "1s"


@pytest.mark.parametrize("name", dashboards())
def test_panels_do_not_lie_on_each_other(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboards()[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", dashboards())
def test_prometheus_can_read_every_query(name: str, tmp_path: Path) -> None:
    found = queries(dashboards()[name])
    rules = [
        {"record": f"query:{number}", "expr": fill(expr)} for number, (_, expr) in enumerate(found)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout
    assert f"{len(found)} rules found" in done.stdout


@pytest.mark.parametrize("name", dashboards())
def test_queries_speak_of_metrics_that_there_are(name: str) -> None:
    for where, expr in queries(dashboards()[name]):
        assert families(expr) <= metrics_documented(), where


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    provisioning = GRAFANA / "provisioning"
    (source,) = read(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    interval = read(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (leads,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert leads["name"] == "migration_id"
    # $$ is how a provisioning file says $: a single one would be a variable of the environment.
    assert (
        leads["url"] == "/d/pageferry-migration?var-migration=$${__value.raw}&$${__url_time_range}"
    )
    (provider,) = read(provisioning / "dashboards" / "pageferry.yaml")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
