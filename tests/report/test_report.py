"""Reports: whole in one file, every chart drawable, every run in the table, numbers that are so."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vl_convert

from pageferry.report.repeats import repeated
from pageferry.report.sweeps import sweep_report
from pageferry.report.variants import MEASURES, compared
from pageferry.report.verdict import verdict
from pageferry.results import BadResult
from pageferry.sweep import run_points
from pageferry.sweep.directory import existing, opened
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.settings import NAMES, SETTINGS
from pageferry.sweep.work import Task, perform
from pageferry.sweep.workers import LocalWorkers
from tests.pageferry.hosts import pageferry
from tests.sweep.small import CROWDED, point

MAX_BYTES = 5_000_000
MAX_PIXELS = 1200
"""Of a chart's height: one whose layer has no rows would be millions high."""


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


def check(page: str, at_least: int = 2) -> Tags:
    """One file under 5 MB that asks nobody for anything and whose charts can be drawn."""
    assert len(page.encode()) < MAX_BYTES
    tags = Tags()
    tags.feed(page)
    assert tags.fetched == []
    specs = specs_in(page)
    assert len(specs) >= at_least
    for name, spec in specs.items():
        assert f'id="{name}"' in page
        drawn = vl_convert.vegalite_to_svg(spec | {"width": 300})
        assert drawn.count("<path") > 2, spec["title"]
        height = re.search(r'<svg [^>]*?height="([\d.]+)"', drawn)
        assert height is not None
        assert 100 < float(height[1]) < MAX_PIXELS, spec["title"]
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
        run_points.run(
            run_points.unfinished(points, directory), directory, LocalWorkers(2), lambda _: None
        )
    return where


def test_the_report_of_a_sweep_is_whole(swept: Path) -> None:
    page = sweep_report(swept)
    tags = check(page)
    # Of every run: heads, 11 runs, one that failed; of models heads and three; of the load heads,
    # four surroundings, 11 runs; of the command heads and one; of what is shared heads and each.
    done = [row for row in sweep_table(swept).to_pylist() if row["status"] == "ok"]
    shared = sum(len({repr(row[name]) for row in done}) == 1 for name in NAMES)
    assert shared > 10
    assert tags.rows == (1 + 12) + (1 + 3) + (1 + 4 + 11) + (1 + 1) + (1 + shared)
    assert "found no free frame" in page
    assert "pageferry migrate --memory 4MiB" in page
    titles = {spec["title"] for spec in specs_in(page).values()}
    assert {"hotcold, shadow, digests", "hotcold, hap, no digests", "sent again"} <= titles
    assert {"total time", "bytes on the wire", "downtime"} <= titles
    assert "What holds" in page
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
    assert pml["tracking_time"] == pml["tracking_ns"] / single["tracking_ns"]
    assert ("shadow", "n = 1, write-protect", True) in by_key
    assert ("shadow", "adaptive", True) in by_key


def sweep_table(where: Path) -> pa.Table:
    return existing(where).read_table()


def test_the_verdict_says_the_numbers_of_the_runs(swept: Path) -> None:
    runs = compared(sweep_table(swept)).to_pylist()
    held = verdict(repeated(runs)).holds
    row = next(
        r for r in runs if (r["paging"], r["variant"], r["suppress"]) == ("hap", "n = 64", True)
    )
    (said,) = (text for text in held if text.startswith("hap, digests: groups of 64"))
    assert f"tracking overhead down on hotcold (×{row['overhead']:.2f})" in said
    assert f"fixup faults down on hotcold (×{row['fixups']:.2f})" in said
    single = next(r for r in runs if r["paging"] == "shadow" and r["plain"] and r["suppress"])
    cost = f"shadow, digests: single pages cost the guest {single['overhead_percent']:.2f} %"
    assert any(text.startswith(cost) for text in held)
    assert any("tearing shadows down and building them again" in text for text in held)
    better = next(text for text in held if text.startswith("hap, digests: less overhead"))
    assert "PML on hotcold" in better


@pytest.mark.parametrize(
    "grid",
    [
        [{"group_pages": n} for n in (1, 64)],
        [{"group_pages": 1}],
        [{"workload": "idle:wss=64KiB"}, {"workload": "idle:wss=64KiB", "group_pages": 8}],
        [{"clean": "clear-log", "group_pages": n} for n in (1, 8)],
        [{"seed": seed, "suppress": False} for seed in (1, 2)],
    ],
    ids=["plain groups alone", "one point", "nothing written", "no baseline", "seeds"],
)
def test_no_chart_is_empty_whatever_was_swept(tmp_path: Path, grid: list[dict[str, Any]]) -> None:
    """A chart whose layer has no rows has an infinite height: the page was 33,554,432 pixels."""
    with opened(tmp_path / "s") as directory:
        for each in grid:
            done = point(**each)
            directory.keep(done, perform(Task(done.options, model_digest())))
    page = sweep_report(tmp_path / "s")
    for spec in specs_in(page).values():
        for layer in spec.get("layer", [spec]):
            assert "transform" not in layer or "filter" not in str(layer["transform"])
            assert (layer.get("data") or spec["data"]).get("values"), spec["title"]
    check(page, at_least=0)
    assert sweep_report(tmp_path / "s") == page


def test_a_table_that_an_earlier_version_wrote_is_read_with_the_columns_of_this_one(
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "s") as directory:
        for n in (1, 64):
            done = point(group_pages=n)
            directory.keep(done, perform(Task(done.options, model_digest())))
        whole = directory.write_table()
        lacking = ["costs_ns", "tlb_entries"]
        pq.write_table(whole.drop_columns(lacking), tmp_path / "s" / "results.parquet")
        for file in (tmp_path / "s" / "points").iterdir():
            row = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in row.items() if k not in lacking}))
    assert existing(tmp_path / "s").read_table().equals(whole)


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


def test_ratios_have_names_that_no_setting_has() -> None:
    """A table with two columns of one name has the values of one of them."""
    settings = {setting.name for setting in SETTINGS}
    assert not settings & set(MEASURES)
    assert not settings & set(MEASURES.values())
