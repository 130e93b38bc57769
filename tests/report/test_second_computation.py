"""Every number of a sweep's report, computed a second time from the result documents.

Two values on each axis in turn, whatever axes there are; and properties that hold of any grid:
a point that has nothing to do with another does not change its line, the order of the rows changes
nothing, and single pages read 1 against themselves.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.report.loads import load_tables
from pageferry.report.pictures import causes, frontiers
from pageferry.report.repeats import Repeated, repeated
from pageferry.report.runs import runs_table
from pageferry.report.variants import compared
from pageferry.report.verdict import verdict
from pageferry.settings import AXES
from pageferry.sweep.point import Point
from pageferry.sweep.settings import ALIKE, BY_NAME, NAMES, SETTINGS, settings_of, values_of
from pageferry.tables import CAUSE_LABELS
from paging_core.settings import Role
from tests.report import sweeps
from tests.report.axes import COSTS, points_of
from tests.report.sweeps import Document, alike, baseline, documents, figures, tracking_ns
from tests.sweep.small import point

SCHEMA = Path(__file__).parents[2] / "pageferry" / "schema" / "migration-v1.json"


@pytest.fixture(scope="module", autouse=True)
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A directory with tables of prices, in which every point is made and run."""
    place = tmp_path_factory.mktemp("axes")
    for name, text in COSTS.items():
        (place / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield


# -- settings -------------------------------------------------------------------------------


def test_every_setting_of_a_document_has_a_column() -> None:
    config = json.loads(SCHEMA.read_text())["properties"]["config"]["properties"]
    assert {setting.of for setting in SETTINGS} == set(config)
    assert len(set(NAMES)) == len(NAMES)
    for setting in SETTINGS:
        assert (setting.plain is not None) == (setting.role is Role.REMEDY), setting.name


@pytest.mark.parametrize("axis", sorted(AXES))
def test_no_two_points_of_an_axis_share_their_columns(axis: str) -> None:
    rows = [settings_of(p.configured) for p in points_of(axis)]
    assert len({values_of(row, SETTINGS) for row in rows}) == len(rows) >= 2


def test_unlike_settings_have_unlike_names() -> None:
    """Nobody could tell two lines of a table apart that say the same of themselves."""
    everything = [p for axis in AXES for p in points_of(axis)]
    for lines in (sweeps.lines(points_of(axis)) for axis in AXES):
        assert len({(x.load, x.where, x["variant"]) for x in lines}) == len(lines)
    lines = sweeps.lines(everything)
    assert len({(x.load, x.where, x["variant"]) for x in lines}) == len(lines)


@pytest.mark.parametrize(
    ("settings", "name", "shown"),
    [
        ({}, "violations", "violations only under hap"),
        ({"paging": "hap"}, "violations", "violations sync"),
        ({"paging": "hap"}, "reads_map", "reads map only under shadow"),
        ({"hypervisor": "kvm"}, "reads_map", "reads map writable"),
        ({"hypervisor": "kvm"}, "dirty_ring", "no dirty ring"),
        ({"hypervisor": "kvm", "dirty_ring": 128}, "dirty_ring", "dirty ring of 128"),
        ({}, "zstd_level", "zstd 1 where it pays"),
    ],
)
def test_a_setting_that_a_run_does_not_have_is_said_to_be_none(
    settings: dict[str, Any], name: str, shown: str
) -> None:
    """What its hypervisor chose stands in the document; null is the other kind of paging's."""
    setting = BY_NAME[name]
    row = settings_of(point(**settings).configured)
    assert setting.show(row[name]) == shown
    assert setting.is_about(row) == ("only under" not in shown)


# -- against the documents ------------------------------------------------------------------


@pytest.mark.parametrize("axis", sorted(AXES))
def test_every_run_is_set_against_the_single_pages_that_are_alike_in_all_the_rest(
    axis: str,
) -> None:
    rows = sweeps.runs(points_of(axis))
    assert sorted(row["point"] for row in rows) == sorted(p.id for p in points_of(axis))
    every = documents(rows)
    for row, document in zip(rows, every, strict=True):
        single = baseline(document, every)
        mine = figures(document)
        assert row["tracking_ns"] == tracking_ns(document)
        assert row["overhead_percent"] == mine["overhead"]
        for name, value in mine.items():
            base = figures(single)[name] if single is not None else None
            assert row[f"base_{name}"] == base
            assert row[name] == (value / base if base and value is not None else None)
            if single is document and base and value is not None:
                assert row[name] == 1


def test_most_axes_have_something_to_be_set_against() -> None:
    """Else the test above would be content with nothing."""
    without = [
        axis for axis in AXES if all(row["wire"] is None for row in sweeps.runs(points_of(axis)))
    ]
    assert set(without) <= {
        "clear_chunk",
        "group_trigger",
        "group_pages",
        "clean",
        "pml_buffer_entries",
        # Of another way of cleaning than the hypervisor's own, which single pages have.
        "initially_set",
        "memory_slots",
        "slot_zap",
    }


# -- tables ---------------------------------------------------------------------------------


class Cells(HTMLParser):
    """The rows of a table, as text."""

    def __init__(self, table: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._in = False
        self.feed(table)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._in = True

    def handle_endtag(self, tag: str) -> None:
        self._in = self._in and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self._in:
            self.rows[-1][-1] += data


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def by_seed(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Document]]:
    """Documents that differ in their seed alone."""
    groups: dict[str, list[Document]] = defaultdict(list)
    for document in documents(rows):
        groups[alike(document["config"], ["seed"])].append(document)
    return groups


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "ns": 1e-9, "µs": 1e-6,
         "ms": 1e-3, "s": 1.0, "%": 1.0, "": 1.0}  # fmt: skip


def read(cell: str) -> list[float]:
    """The quantities in a cell, in base units."""
    return [
        float(number.replace(",", "")) * UNITS[unit or ""]
        for number, unit in re.findall(r"([\d,]*\.?\d+(?:e-\d+)?) ?([KMG]iB|B|ns|µs|ms|s|%)?", cell)
    ]


def near(shown: float, value: float) -> bool:
    """To the digits that tables show."""
    return shown == pytest.approx(value, rel=0.035, abs=0.0051)


@pytest.mark.parametrize("axis", sorted(AXES))
def test_the_tables_by_load_say_what_the_documents_say(axis: str) -> None:
    rows = sweeps.runs(points_of(axis))
    every = documents(rows)
    lines = repeated(rows)
    tables = load_tables(lines)
    shown = [cells for _, table in tables for cells in Cells(table).rows if len(cells) == 13]
    heads = [cells for cells in shown if "tracking overhead" in cells]
    assert len(heads) == len(tables)
    body = [cells for cells in shown if cells not in heads]
    groups = by_seed(rows)
    assert len(body) == len(lines) == len(groups)
    for cells, line in zip(body, in_order(lines), strict=True):
        mine = groups[alike(json.loads(line.runs[0]["document"])["config"], ["seed"])]
        assert cells[0].startswith(str(line["variant"]))
        for at, name in ((1, "overhead"), (3, "fixups"), (5, "wire"), (7, "downtime")):
            values = [figures(document)[name] for document in mine]
            if None in values:
                assert cells[at] == "–"  # no twin, so nobody knows
                assert cells[at + 1] == ""
                continue
            shown_values, _, by_prices = cells[at].partition("(")
            if name == "overhead" and by_prices:
                ends = [
                    mean([figures(d)[f"overhead_{end}"] for d in mine]) for end in ("low", "high")
                ]
                low, high = read(by_prices)
                assert near(low, min(ends)), cells
                assert near(high, max(ends)), cells
            found = read(shown_values)
            assert near(found[0], mean(values)), (cells, name)
            if len(found) > 1:
                assert near(found[1], min(values))
                assert near(found[2], max(values))
            else:
                assert near(found[0], min(values))
                assert near(found[0], max(values))
            ratios = [ratio(document, every, name) for document in mine]
            known = [each for each in ratios if each is not None]
            assert cells[at + 1] == (f"×{mean(known):.2f}" if known else "")
        for at, n in enumerate((4, 16, 64, 512), 9):
            densities = [density(document, n) for document in mine]
            assert near(read(cells[at])[0], mean(densities)), (cells, n)


def density(document: Document, n: int) -> float:
    """Frames written per touched group of n, the mean over rounds with writes."""
    rounds = [r for r in document["rounds"] if r["written"]]
    return mean([r["written"] / r["touched"][str(n)] for r in rounds])


def in_order(lines: Sequence[Repeated]) -> list[Repeated]:
    """By load, then by surroundings as they come, as the tables have them."""
    ordered = []
    for load in sorted({line.load for line in lines}):
        mine = [line for line in lines if line.load == load]
        for where in dict.fromkeys(line.where for line in mine):
            ordered += [line for line in mine if line.where == where]
    return ordered


def ratio(document: Document, every: Sequence[Document], name: str) -> float | None:
    single = baseline(document, every)
    base = figures(single)[name] if single is not None else 0
    value = figures(document)[name]
    return value / base if base and value is not None else None


@pytest.mark.parametrize("axis", sorted(AXES))
def test_the_table_of_every_run_tells_them_apart(axis: str) -> None:
    table = sweeps.table(points_of(axis))
    cells = Cells(runs_table(table, compared(table))).rows
    rows = [row[:-1] for row in cells[1:]]  # without the command
    assert len(rows) == len(points_of(axis))
    measured = cells[0].index("tracking overhead")
    assert len({tuple(row[:measured]) for row in rows}) == len(rows)


# -- charts ---------------------------------------------------------------------------------


def title_of(spec: Mapping[str, Any]) -> str:
    """A chart's title, which may have been put on several lines."""
    title = spec["title"]
    lines = title["text"] if isinstance(title, dict) else title
    return " ".join(lines) if isinstance(lines, list) else " ".join(str(lines).split("\n"))


def values_in(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of every layer of a chart."""
    for layer in spec.get("layer", [spec]):
        data = layer.get("data") or spec["data"]
        yield from data["values"] if "values" in data else spec["datasets"][data["name"]]


@pytest.mark.parametrize("axis", sorted(AXES))
def test_the_bars_by_cause_are_those_of_the_documents(axis: str) -> None:
    rows = sweeps.runs(points_of(axis))
    lines = repeated(rows)
    drawn: dict[tuple[str, str, str], float] = {}
    for spec in causes(lines):
        for value in values_in(spec):
            if "cause" in value:
                key = (title_of(spec), value["variant"], value["cause"])
                assert key not in drawn, "stacked twice"
                drawn[key] = value["percent"]
    expected = {}
    for line in lines:
        found = documents(line.runs)
        times = [document["guest"]["time_ns"] for document in found]
        for cause, label in CAUSE_LABELS.items():
            shares = [100 * each[cause] / each["base"] for each in times if cause in each]
            if any(shares):
                expected[f"{line.load}, {line.where}", line["variant"], label] = mean(shares)
    assert drawn == pytest.approx(expected)


@pytest.mark.parametrize("axis", sorted(AXES))
def test_the_points_of_the_frontier_are_those_of_the_documents(axis: str) -> None:
    rows = sweeps.runs(points_of(axis))
    every = documents(rows)
    for spec in frontiers(repeated(rows)):
        line_of = {
            line["variant"]: line
            for line in repeated(rows) if f"{line.load}, {line.where}" == title_of(spec)
        }  # fmt: skip
        for value in values_in(spec):
            found = documents(line_of[value["variant"]].runs)
            for name in ("fixups", "wire"):
                ratios = [ratio(document, every, name) for document in found]
                assert value[name] == pytest.approx(mean([r for r in ratios if r is not None]))


# -- properties of any grid -----------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(somewhere: None) -> pa.Table:  # noqa: ARG001
    return sweeps.table(p for axis in AXES for p in points_of(axis))


def facts(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["point"]: row for row in compared(table).to_pylist()}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_an_unrelated_point_changes_no_other_row(whole: pa.Table, data: st.DataObject) -> None:
    rows = whole.to_pylist()
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    added = data.draw(st.sampled_from(range(len(rows))))
    keys = {values_of(rows[i], ALIKE) for i in chosen}
    if values_of(rows[added], ALIKE) in keys:
        return
    before, after = facts(whole.take(chosen)), facts(whole.take([*chosen, added]))
    assert len(after) == len(before) + 1
    assert {point: after[point] for point in before} == before


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_the_order_of_the_rows_changes_nothing(whole: pa.Table, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(whole.num_rows)))
    one, other = compared(whole), compared(whole.take(order))
    assert one.equals(other)
    assert load_tables(repeated(one.to_pylist())) == load_tables(repeated(other.to_pylist()))


# -- seeds, links and loads are never added up ----------------------------------------------


def seeds_and_links() -> list[Point]:
    return [
        point(seed=seed, link=link, policy=policy, group_pages=n)
        for seed in (0, 1, 2) for link in ("1Gbit/s", "100Mbit/s")
        for policy in ("xen", "qemu") for n in (1, 16)
    ]  # fmt: skip


def test_seeds_are_a_mean_and_a_spread_and_links_and_policies_stand_apart() -> None:
    lines = sweeps.lines(seeds_and_links())
    assert [len(line.runs) for line in lines] == [3] * 8
    assert len({line.where for line in lines}) == 4
    for line in lines:
        costs = [100 * (d["guest"]["slowdown"] - 1) for d in documents(line.runs)]
        found = line.spread("overhead_percent")
        assert found is not None
        assert (found.least, found.most, found.n) == (min(costs), max(costs), 3)
        assert found.mean == pytest.approx(mean(costs))


def test_the_verdict_names_sizes_that_were_run_and_a_best_one_only_of_several() -> None:
    two = verdict(sweeps.lines(point(group_pages=n) for n in (1, 64)))
    said = " ".join((*two.holds, *two.exceptions))
    assert "groups of 64 against single pages" in said
    assert "least overhead" not in said
    assert "1024" not in said
    three = verdict(sweeps.lines(point(group_pages=n) for n in (1, 4, 64)))
    said = " ".join((*three.holds, *three.exceptions))
    assert "groups of 4 and 64 against single pages" in said
    assert "of the sizes that were run (4 and 64) the least overhead has n = " in said


def test_the_verdict_counts_loads_and_names_the_exceptions() -> None:
    """Groups help where the guest writes, and do nothing for one that is idle."""
    loads = ("hotcold:wss=1MiB,write_rate=1M", "uniform:wss=1MiB", "idle:wss=1MiB")
    points = [point(workload=load, group_pages=n) for load in loads for n in (1, 16)]
    said = verdict(sweeps.lines(points))
    held = next(text for text in said.holds if "groups of 16" in text)
    changes = {}
    rows = {(r["load"], r["group_pages"]): d for r, d in with_documents(points)}
    for load in ("hotcold", "uniform", "idle"):
        before, after = (100 * (rows[load, n]["guest"]["slowdown"] - 1) for n in (1, 16))
        changes[load] = (before, after)
        assert f"{before:.2f} % → {after:.2f} %" in " ".join(said.exceptions) or after < before
    down = [load for load, (before, after) in changes.items() if after < 0.98 * before]
    assert f"tracking overhead down on {len(down)} of 3 loads" in held
    exceptions = [text for text in said.exceptions if "tracking overhead" in text]
    assert [text.split(" on ")[1].split(" ")[0] for text in exceptions] == ["idle"]


def with_documents(points: Sequence[Point]) -> list[tuple[dict[str, Any], Document]]:
    rows = sweeps.runs(points)
    return list(zip(rows, documents(rows), strict=True))
