"""Two people who disagree about a price each ask the same grid with theirs: command by command.

What each is told, in the table and in the report, is reckoned again from the events of the runs and
from the prices of the file, at the price that is charged and at both ends of its interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from paging_core.default_costs import DEFAULTS
from paging_core.events import CAUSES
from tests.pageferry.hosts import pageferry

GRID = """
memory = "4MiB"
workload = "hotcold:wss=1MiB,write_rate=1M"
clean = "write-protect"
max_rounds = 3
group_pages = [1, 16]
"""
PEOPLE: Mapping[str, tuple[float, float, float]] = {
    "she": (2000, 3000, 4000),
    "he": (300, 300, 300),
}
"""What each of them thinks that a fixup costs."""
LOW, CHARGED, HIGH = range(3)


def ask(person: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of a sweep at the prices of one of them, and its report drawn."""
    (folder / "grid.toml").write_text(GRID)
    prices = folder / f"{person}.toml"
    prices.write_text(f'[ns]\nfixup = {list(PEOPLE[person])}\n[source]\nfixup = "{person}"\n')
    out = folder / person
    grid, costs = str(folder / "grid.toml"), str(prices)
    for command in (
        ("sweep", grid, "--costs", costs, "--out", str(out), "--jobs", "1"), ("report", str(out)),
    ):  # fmt: skip
        done = pageferry(*command)
        assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = pq.read_table(out / "results.parquet").to_pylist()
    return rows


def overhead(person: str, document: Mapping[str, Any], end: int) -> float:
    """Percent, by hand: events × prices of the tracked guest over those of its twin."""
    prices = {e.name.lower(): (c.low, c.typical, c.high)[end] for e, c in DEFAULTS.items()}
    prices["fixup"] = PEOPLE[person][end]
    events = document["guest"]["events_by"]
    took = {to: sum(n * prices[event] for event, n in of.items()) for to, of in events.items()}
    tracked = took["base"] + sum(took.get(cause, 0) for cause in CAUSES)
    return float(100 * (tracked - took["untracked"]) / (took["untracked"] + idle_ns(document)))


def idle_ns(document: Mapping[str, Any]) -> float:
    """What passed between accesses, in either guest: the twin's time less its events'."""
    guest = document["guest"]
    prices = document["config"]["costs_ns"]
    busy = sum(n * prices[event] for event, n in guest["events_by"]["untracked"].items())
    return float(guest["time_ns"]["base"] - busy)


@pytest.mark.parametrize("person", PEOPLE)
def test_each_is_answered_at_his_and_her_own_prices(person: str, tmp_path: Path) -> None:
    rows = ask(person, tmp_path)
    assert [row["group_pages"] for row in rows] == [1, 16]
    for row in rows:
        document = json.loads(row["document"])
        assert json.loads(row["costs_ns"])["fixup"] == PEOPLE[person][CHARGED]
        told = [row["slowdown_low"], row["slowdown"], row["slowdown_high"]]
        assert [100 * (at - 1) for at in told] == pytest.approx(
            [overhead(person, document, end) for end in (LOW, CHARGED, HIGH)], abs=1e-6
        )
    html = (tmp_path / person / "report.html").read_text()
    assert f"fixup {PEOPLE[person][CHARGED]:g} ns" in html
