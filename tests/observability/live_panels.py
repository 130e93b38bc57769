"""Every query of every panel, asked of a real Prometheus after a real migration.

`make test-observability` runs this. A panel whose query finds nothing, or is none, fails.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import Pair
from tests.journey.relay import Relay
from tests.observability.deployed import dashboards, fill, panels
from tests.observability.observed import Observed, slow
from tests.observability.prometheus import PrometheusProcess

_WORKLOAD = "churn:wss=2MiB,region=256KiB,fork_every=2000,children=2,write_rate=1M"
_RATE = "2s"
TARGETS = [
    pytest.param(panel, target, id=f"{name}: {panel['title']} {target['refId']}")
    for name, board in dashboards().items()
    for panel in panels(board)
    for target in panel["targets"]
]
MARKS = [
    pytest.param(one["expr"], id=f"{name}: {one['name']}")
    for name, board in dashboards().items()
    for one in board["annotations"]["list"]
]


@dataclass(frozen=True)
class Watched:
    """A migration that is over, and who watched it."""

    prometheus: PrometheusProcess
    status: pb.MigrationStatus
    pages: dict[str, str]
    start_s: float
    end_s: float

    @property
    def span(self) -> str:
        return f"{math.ceil(self.end_s - self.start_s)}s"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One migration over a slow link, in groups, with alerts and faults and all."""
    metrics = ["--metrics-port", "0"]
    with Pair(metrics, metrics) as pair, Relay(pair.destination.address) as relay:
        targets = {
            "pageferry-source": str(pair.source.process.ready.metrics),
            "pageferry-destination": str(pair.destination.process.ready.metrics),
        }
        with PrometheusProcess(tmp_path_factory.mktemp("prometheus"), targets) as prometheus:
            observed = Observed(pair, relay, prometheus)
            observed.quiet()
            start_s, relay.on_batch = time.time(), slow
            tracker = common_pb2.TrackerConfig(group=common_pb2.GroupPolicy(frames=8))
            status = pair.source.follow(observed.migrate(_WORKLOAD, tracker, max_rounds=8))
            assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
            observed.until_seen("pageferry_source_guests")
            observed.until_seen("pageferry_destination_guests")
            end_s = time.time()
            time.sleep(1)
            yield Watched(prometheus, status, {}, start_s, end_s + 1)


def numbers(found: list[dict[str, Any]]) -> list[float]:
    """Every value that is one."""
    values = [
        float(value)
        for series in found
        for _, value in series.get("values", [series.get("value", (0, "NaN"))])
    ]
    return [value for value in values if math.isfinite(value)]


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_a_panel_shows_something(
    watched: Watched, panel: dict[str, Any], target: dict[str, Any]
) -> None:
    expr = fill(target["expr"], rate=_RATE, span=watched.span)
    if target.get("instant"):
        found = watched.prometheus.instant(expr, watched.end_s)
    else:
        found = watched.prometheus.over(expr, watched.start_s, watched.end_s)
    assert numbers(found), f"{panel['title']}: nothing for {expr}"


@pytest.mark.parametrize("expr", MARKS)
def test_a_mark_stands_within_the_migration(watched: Watched, expr: str) -> None:
    """At the moment itself, in milliseconds, not at a scrape."""
    found = watched.prometheus.over(fill(expr), watched.start_s, watched.end_s)
    times_s = {value / 1000 for value in numbers(found)}
    assert times_s
    assert watched.start_s <= min(times_s) <= max(times_s) <= watched.end_s


def test_each_round_is_marked(watched: Watched) -> None:
    expr = next(one["expr"] for one in dashboards()["migration"]["annotations"]["list"])
    found = watched.prometheus.over(fill(expr), watched.start_s, watched.end_s)
    assert len(set(numbers(found))) == len(watched.status.rounds)


def test_what_leads_from_a_panel_to_a_migration(watched: Watched) -> None:
    """The exemplars of every query that asks for some."""
    asked = [
        target["expr"]
        for board in dashboards().values()
        for panel in panels(board)
        for target in panel["targets"]
        if target["exemplar"]
    ]
    assert asked
    for expr in asked:
        filled = fill(expr, rate=_RATE, span=watched.span)
        found = watched.prometheus.exemplars(filled, watched.start_s, watched.end_s)
        assert {"migration_id": watched.status.migration_id} in found, expr


def test_the_dashboard_of_one_migration_can_choose_it(watched: Watched) -> None:
    named = watched.prometheus.over(
        "pageferry_source_migration_info", watched.start_s, watched.end_s
    )
    assert {one["metric"]["migration_id"] for one in named} == {watched.status.migration_id}
