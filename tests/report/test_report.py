"""Reports: whole in one file, every chart drawable, every run in the table, numbers that are so."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import vl_convert

from pageferry.report.sweeps import sweep_report
from pageferry.report.variants import compared, totals
from pageferry.report.verdict import verdict
from pageferry.results import BadResult
from pageferry.sweep import sweep
from pageferry.sweep.directory import existing, opened
from pageferry.sweep.point import Point
from pageferry.sweep.workers import LocalWorkers
from tests.pageferry.hosts import pageferry
from tests.sweep.small import CROWDED, point

MAX_BYTES = 5_000_000


def specs_in(page: str) -> dict[str, Any]:
    found = re.search(r"const SPECS = (\{.*?\});\nfor", page, re.DOTALL)
    assert found
    specs: dict[str, Any] = json.loads(found[1].replace("<\\/", "</"))
    return specs


class Tags(HTMLParser):
    """What a page asks the network for, and the rows of its table."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.rows += tag == "tr"


def check(page: str) -> Tags:
    """One file under 5 MB that asks nobody for anything and whose charts can be drawn."""
    assert len(page.encode()) < MAX_BYTES
    tags = Tags()
    tags.feed(page)
    assert tags.fetched == []
    specs = specs_in(page)
    assert len(specs) >= 2
    for name, spec in specs.items():
        assert f'id="{name}"' in page
        drawn = vl_convert.vegalite_to_svg(spec | {"width": 300})
        assert drawn.count("<path") > 2, spec["title"]
    return tags


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("sweep") / "s"
    grid: list[dict[str, Any]] = [
        {"paging": paging, "group_pages": n, "suppress": s}
        for paging in ("shadow", "hap") for n in (1, 64) for s in (True, False)
    ]  # fmt: skip
    grid += [
        {"clean": "write-protect"},
        {"paging": "hap", "pml": True},
        {"group_pages": "adaptive"},
    ]
    points: list[Point] = [point(**settings) for settings in grid]
    points += [point(flow=True), point(**CROWDED)]
    with opened(where) as directory:
        sweep.run(sweep.unfinished(points, directory), directory, LocalWorkers(2), lambda _: None)
    return where


def test_the_report_of_a_sweep_is_whole(swept: Path) -> None:
    page = sweep_report(swept)
    tags = check(page)
    assert tags.rows == 1 + 12 + 4  # heads, 11 runs, one that failed; heads and three models
    assert "found no free frame" in page
    assert "pageferry migrate --memory 4MiB" in page
    titles = {spec["title"] for spec in specs_in(page).values()}
    assert {"shadow, suppression", "hap, no suppression", "sent again"} <= titles
    assert {"shadow, mean of 1 loads", "hotcold, hap"} <= titles
    assert {"total time", "bytes on the wire", "downtime"} <= titles
    assert [page.count(f'<td class="text">{m}</td>') for m in ("AVG", "HIST", "rehearsal")] == [
        1
    ] * 3


def test_ratios_are_against_single_pages_of_the_same_kind(swept: Path) -> None:
    runs = compared(sweep_table(swept)).to_pylist()
    assert len(runs) == 11
    by_key = {(r["paging"], r["variant"], r["suppress"]): r for r in runs}
    for paging in ("shadow", "hap"):
        for suppress in (True, False):
            single = by_key[paging, "n = 1", suppress]
            grouped = by_key[paging, "n = 64", suppress]
            assert single["fixups"] == single["wire"] == 1
            assert grouped["fixups"] == grouped["faults_fixup"] / single["faults_fixup"]
            assert grouped["wire"] == grouped["bytes_wire"] / single["bytes_wire"]
    pml, single = by_key["hap", "PML", True], by_key["hap", "n = 1", True]
    assert pml["tracking"] == pml["tracking_ns"] / single["tracking_ns"]
    assert ("shadow", "n = 1, write-protect", True) in by_key
    assert ("shadow", "adaptive", True) in by_key


def sweep_table(where: Path) -> pa.Table:
    return existing(where).read_table()


def test_totals_are_sums_against_sums() -> None:
    """Two loads: 100 → 10 and 10 → 10 faults make 20 of 110, not the mean of 0.1 and 1."""
    rows = [
        {"load": load, "faults_fixup": n, "base_fixups": base}
        for load, base, n in (("a", 100, 10), ("b", 10, 10), ("idle", 0, 0))
    ]
    measures = ("faults_total", "bytes_wire", "tracking_ns", "total_s", "downtime_s")
    ratios = ("faults", "wire", "tracking", "total", "downtime")
    rest: dict[str, Any] = dict.fromkeys(measures, 1)
    rest |= {f"base_{ratio}": 1 for ratio in ratios}
    rest |= {"paging": "hap", "suppress": True, "plain": True, "group_pages": 64, "wire": 1.0,
             "variant": "n = 64", "pages_falsely_dirty": 0}  # fmt: skip
    (total,) = totals(pa.Table.from_pylist([row | rest for row in rows])).to_pylist()
    assert total["fixups"] == pytest.approx(20 / 110)
    assert total["loads"] == 3


def test_the_verdict_says_the_numbers_of_the_runs(swept: Path) -> None:
    runs = compared(sweep_table(swept))
    said = " ".join(verdict(runs))
    row = next(
        r for r in runs.to_pylist()
        if (r["paging"], r["variant"], r["suppress"]) == ("hap", "n = 64", True)
    )  # fmt: skip
    assert f"{100 * (row['fixups'] - 1):+.0f} %".replace("-", "−") in said
    assert "Under HAP, page groups" in said
    assert "The first objection" in said
    assert "Groups that learn their size" in said


def test_a_sweep_of_which_nothing_completed_is_named(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as directory:
        directory.write_table()
    with pytest.raises(BadResult, match="no point of the sweep"):
        sweep_report(tmp_path / "s")


def test_the_report_of_a_migration_is_whole(tmp_path: Path) -> None:
    flow = tmp_path / "flow"
    small = ["--memory", "8MiB", "--workload", "hotcold:wss=2MiB,write_rate=2M", "--no-progress"]
    done = pageferry("migrate", *small, "--group-pages", "16", "--flow", str(flow))
    assert done.returncode == 0, done.stderr
    said = pageferry("report", str(flow))
    assert said.returncode == 0, said.stderr
    page = (flow / "report.html").read_text()
    check(page)
    assert "frames were found dirty that nobody had written" in page
    titles = {spec["title"] for spec in specs_in(page).values()}
    assert {"fixup faults", "opened with a group", "sent", "sent again", "sent too early"} <= titles


def test_what_is_neither_is_named_in_one_line(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        done = pageferry("report", str(place))
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "report.html").exists()
