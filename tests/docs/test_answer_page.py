"""docs/answer.md says what its runs say, and the runs are those that its grids ask for.

Each cell with a number is computed here again from the kept measures, by the words of its row and
column alone; a few of the migrations are run again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq
import pytest

from pageferry.cli.axes import command_of, options_of
from pageferry.settings import AXES
from pageferry.sweep.grid import read_grids
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.work import Task, perform

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "answer.md").read_text()
GRIDS = {name: REPOSITORY / "examples" / f"{name}.toml" for name in ("answer", "answer-quick")}
KEY = ("load", "memory", "link", "hypervisor", "paging", "suppress", "variant", "seed", "costs")
RUNS = {
    tuple(row[name] for name in KEY): row
    for row in pq.read_table(REPOSITORY / "examples" / "answer.parquet").to_pylist()
}
SLOW, USUAL, FAST = "300 Mbit/s", "1 Gbit/s", "10 Gbit/s"
KEPT, FILTERED = "n = 1, write-protect", "n = 64, D-bit filter"
AGAINST = "costs-against-groups"

Row = dict[str, Any]


class Line:
    """A line of a table: what it is about, and its runs."""

    def __init__(self, cells: dict[str, str], **about: Any) -> None:
        self.cells = cells
        self.about = {
            "load": cells["load"], "memory": cells.get("memory", "64 MiB"), "link": USUAL,
            "hypervisor": "xen", "suppress": True, "seed": 0, "costs": "typical",
            "paging": cells.get("paging", "hap"), **about,
        }  # fmt: skip

    def run(self, variant: str = "n = 1", **other: Any) -> Row | None:
        asked = {**self.about, "variant": variant, **other}
        return RUNS.get(tuple(asked[name] for name in KEY))

    def left(self, variant: str, end: str = "", **other: Any) -> float | None:
        return self.ratio(f"overhead{end}", variant, **other)

    def ratio(self, of: str, variant: str, **other: Any) -> float | None:
        single, run = self.run(**other), self.run(variant, **other)
        return None if single is None or run is None else run[of] / single[of]

    def lefts(self, variant: str, **other: Any) -> list[float] | None:
        found = [self.left(variant, end, **other) for end in ("", "_low", "_high")]
        return None if None in found else [each for each in found if each is not None]

    def overheads(self, **other: Any) -> list[float]:
        run = self.run(**other)
        assert run is not None
        return [run["overhead"], run["overhead_low"], run["overhead_high"]]

    def seeds(self, of: Callable[[int], float | None]) -> list[float]:
        found = [of(seed) for seed in range(3)]
        assert None not in found
        values = [each for each in found if each is not None]
        return [mean(values), min(values), max(values)]


Expected = Callable[[Line], "list[float] | float | None"]


def _pause(variant: str = "n = 64", **other: Any) -> Expected:
    def expected(line: Line) -> list[float] | None:
        single, ratio = line.run(**other), line.ratio("downtime_s", variant, **other)
        return None if single is None or ratio is None else [1000 * single["downtime_s"], ratio]

    return expected


def _bytes(variant: str = "n = 64", **other: Any) -> Expected:
    return lambda line: line.ratio("wire_bytes", variant, **other)


def _downtime(variant: str, **other: Any) -> Expected:
    return lambda line: line.ratio("downtime_s", variant, **other)


def _lefts(variant: str, **other: Any) -> Expected:
    return lambda line: line.lefts(variant, **other)


def _left(variant: str, end: str = "", **other: Any) -> Expected:
    return lambda line: line.left(variant, end, **other)


def _of(measure: str, scale: float = 1.0, **other: Any) -> Expected:
    def expected(line: Line) -> float | None:
        run = line.run(**other)
        return None if run is None or run[measure] is None else scale * run[measure]

    return expected


def _shadows(link: str) -> list[Expected]:
    return [
        _of("overhead", link=link), _of("rebuilding", 100, link=link), _left(KEPT, link=link),
        _left("n = 64", link=link),
    ]  # fmt: skip


def _rounds(line: Line) -> list[float]:
    both = [line.run(variant) for variant in ("n = 1", "n = 64")]
    return [run["rounds"] for run in both if run is not None]


def _of_seeds(of: str, variant: str = "") -> Expected:
    def one(line: Line, seed: int) -> float | None:
        if variant:
            return line.ratio(of, variant, seed=seed)
        run = line.run(seed=seed)
        return None if run is None else float(run[of])

    return lambda line: line.seeds(lambda seed: one(line, seed))


def _ends(end: str) -> Expected:
    def expected(line: Line) -> list[float] | None:
        priced, run = line.run(), line.run(costs=end)
        return None if priced is None or run is None else [
            priced[f"overhead_{end}"], run["overhead"],
        ]  # fmt: skip

    return expected


_OVERHEAD: Expected = lambda line: line.overheads()  # noqa: E731 - a column, like the others
TABLES: dict[str, tuple[dict[str, Any], list[Expected]]] = {
    "density": ({}, [_of("dirty"), *(_of("density", link=link) for link in (SLOW, USUAL, FAST))]),
    "shadow": (
        {"paging": "shadow"},
        [_OVERHEAD, _of("fixups", 100), _of("rebuilding", 100), _lefts(KEPT), _lefts("n = 16"),
         _lefts("n = 64"), _lefts("n = 64, write-protect")],
    ),
    "shadow-links": ({"paging": "shadow"}, [*_shadows(SLOW), *_shadows(FAST)]),
    "year": (
        {"paging": "shadow", "hypervisor": "xen-2009", "suppress": False},
        [_OVERHEAD, _lefts("n = 64"), _bytes(), _pause(), _lefts(FILTERED), _bytes(FILTERED),
         _downtime(FILTERED)],
    ),
    "bandwidth": (
        {}, [_of("dirty"), _bytes(suppress=False), _pause(suppress=False), _bytes(), _pause()],
    ),
    "bandwidth-links": (
        {}, [_bytes(link=SLOW), _pause(link=SLOW), _bytes(link=FAST), _pause(link=FAST)],
    ),
    "qemu": (
        {"hypervisor": "kvm"},
        [_rounds, _bytes(), _pause(), _OVERHEAD, _lefts("n = 64"), _lefts("PML"),
         _lefts("n = 64", paging="shadow")],
    ),
    "hap": (
        {}, [_of("density"), _OVERHEAD,
             *(_lefts(v) for v in ("n = 16", "n = 64", "n = 512", "adaptive", "PML"))],
    ),
    "hap-links": (
        {}, [expected for link in (SLOW, FAST) for expected in (
            _of("overhead", link=link), _left("n = 64", link=link), _left("PML", link=link))],
    ),
    "seeds": (
        {}, [_of_seeds("overhead"), *(_of_seeds(of, "n = 64")
                                      for of in ("overhead", "wire_bytes", "downtime_s"))],
    ),
    "prices": (
        {}, [_of("density"), _left("n = 64"), _left("n = 64", "_low"), _left("n = 64", "_high"),
             _left("n = 64", costs=AGAINST)],
    ),
    "feedback": ({}, [_ends("low"), _ends("high")]),
    "sizes": (
        {}, [_lefts("adaptive"), *(expected for v in ("n = 16", "adaptive", "n = 512")
                                   for expected in (_bytes(v), _downtime(v)))],
    ),
}  # fmt: skip
"""Of each table: what its lines share, and what each column after the words must say."""
WORDS = ("load", "memory", "paging", "link")


def block(name: str) -> str:
    """What stands in the page between the marks of a table."""
    found = re.search(rf"<!-- table {name} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert found, name
    return found[1]


def lines(name: str) -> Iterator[tuple[Line, list[str]]]:
    """Every line of a table, and its cells after the words."""
    head, _, *rest = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block(name).splitlines()
    ]
    about, _ = TABLES[name]
    for cells in rest:
        named = {word: cells[head.index(word)] for word in WORDS if word in head}
        own = {"link": named["link"]} if "link" in named else {}
        if name == "bandwidth" and not RUNS[_hap_key(named)]["recorded"]:
            own["paging"] = "shadow"
        yield Line(named, **about, **own), cells[len(named) :]


def _hap_key(named: dict[str, str]) -> tuple[Any, ...]:
    return (named["load"], named["memory"], USUAL, "xen", "hap", True, "n = 1", 0, "typical")


def numbers(cell: str) -> list[str]:
    return re.findall(r"-?\d+(?:\.\d+)?", cell)


def says(cell: str, values: list[float]) -> bool:
    """Whether a cell's numbers are these, each to as many digits as it shows.

    A first value alone stands for what lies between two others that read the same.
    """
    found = numbers(cell)
    if "(" in cell or "[" in cell:
        values = [values[0], min(values), max(values)]
    elif len(values) == 3:
        return len(found) == 1 and all(_reads(found[0], value) for value in values)
    return len(found) == len(values) and all(map(_reads, found, values))


def _reads(shown: str, value: float) -> bool:
    return f"{value:.{len(shown.partition('.')[2])}f}" == shown


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_what_the_runs_say(name: str) -> None:
    _, columns = TABLES[name]
    checked = 0
    for line, cells in lines(name):
        if name == "prices":
            left = [float(each) for cell in cells[1:-1] for each in numbers(cell)]
            assert cells[-1] == _verdict(line)
            assert len(left) == 4
        shown = cells[: len(columns)]
        assert len(shown) == len(columns)
        for cell, column in zip(shown, columns, strict=True):
            expected = column(line)
            if expected is None:
                assert cell == "", (line.about, cell)
            else:
                values = expected if isinstance(expected, list) else [expected]
                assert says(cell, values), (line.about, cell, values)
                checked += 1
    assert checked >= 20


def _verdict(line: Line) -> str:
    left = [*(line.lefts("n = 64") or []), line.left("n = 64", costs=AGAINST) or 0.0]
    if all(each < 0.98 for each in left):
        return "save"
    return "cost" if all(each > 1.02 for each in left) else "flip"


@cache
def points(name: str) -> dict[str, Point]:
    """Those that a grid asks for, by name."""
    made = {}
    for grid in read_grids(GRIDS[name], list(AXES)):
        for settings in grid.combinations():
            point = Point(options_of(settings, REPOSITORY), command_of(settings, REPOSITORY))
            made[point.id] = point
    return made


@pytest.mark.parametrize("name", GRIDS)
def test_the_pages_say_how_many_migrations_that_is(name: str) -> None:
    said = f"{len(points(name))} migrations"
    (line,) = re.findall(rf"^\$ make {name} .*$", PAGE, re.MULTILINE)
    assert said in line
    if name == "answer":
        assert f"a sweep of {said}" in (REPOSITORY / "Makefile").read_text()
        assert said in (REPOSITORY / "README.md").read_text()
        assert len(RUNS) == len(points(name))


def loads() -> dict[tuple[str, bool], set[str]]:
    """Generated loads by their memory, and whether they converge."""
    found: dict[tuple[str, bool], set[str]] = {}
    for row in RUNS.values():
        share = row["load"].partition(" ")[2]
        if share or row["load"] == "churn":
            found.setdefault((row["memory"], bool(share) and float(share) <= 0.5), set()).add(
                row["load"]
            )
    return found


def test_as_many_generated_loads_converge_as_not() -> None:
    found = loads()
    assert len(found) == 6
    for memory in ("64 MiB", "256 MiB", "1 GiB"):
        assert len(found[memory, True]) == len(found[memory, False])


def test_every_load_has_three_seeds_and_every_hypervisor() -> None:
    kept = {(row["load"], row["memory"]) for row in RUNS.values()}
    for load, memory in kept:
        line = Line({"load": load, "memory": memory})
        seeds = sum(line.run("n = 64", seed=seed) is not None for seed in range(3))
        assert seeds == 3 or (memory == "1 GiB" and load != "uniform 0.1")
        assert line.run("n = 64", hypervisor="kvm") is not None
        recorded = RUNS[_hap_key({"load": load, "memory": memory})]["recorded"]
        old = line.run("n = 64", hypervisor="xen-2009", paging="shadow", suppress=False)
        assert (old is None) == recorded  # written pages alone cannot run under shadow paging


def said(name: str) -> list[str]:
    return [line.removeprefix("- ") for line in block(name).splitlines()]


def xen(paging: str, link: str = USUAL) -> list[Line]:
    """Lines of all loads under today's Xen with digests."""
    found = [
        Line({"load": row["load"], "memory": row["memory"]}, paging=paging, link=link)
        for row in RUNS.values()
        if (row["hypervisor"], row["paging"], row["link"], row["suppress"], row["variant"],
            row["seed"], row["costs"]) == ("xen", paging, link, True, "n = 1", 0, "typical")
    ]  # fmt: skip
    assert found
    return found


def named(text: str) -> set[str]:
    return set() if text == "none" else set(text.split(", "))


def names(found: list[Line]) -> set[str]:
    short = {line.about["load"] for line in found if _is_short(line)}
    return short | {
        f"{line.about['load']} ({line.about['memory']})" for line in found if not _is_short(line)
    }


def _is_short(line: Line) -> bool:
    run = line.run()
    assert run is not None
    return bool(run["recorded"] or run["memory"] == "64 MiB")


def test_it_names_the_loads_on_which_tearing_down_is_dear() -> None:
    for link, text in zip((SLOW, USUAL, FAST), said("said-of-shadows"), strict=True):
        found = re.fullmatch(
            rf"{link}: rebuilding and teardown are more than half of tracking on (.*); keeping the "
            r"shadows saves more than groups of 64 on (.*) \(of (\d+)\)\.", text,
        )  # fmt: skip
        assert found, text
        lines = xen("shadow", link)
        kept = [line for line in lines if line.left(KEPT) is not None]
        assert named(found[1]) == names([one for one in lines if _run(one)["rebuilding"] > 0.5])
        better = [one for one in kept if (one.left(KEPT) or 0) < (one.left("n = 64") or 0)]
        assert named(found[2]) == names(better)
        assert int(found[3]) == len(kept)


def _run(line: Line) -> Row:
    run = line.run()
    assert run is not None
    return run


def test_it_names_the_loads_by_what_their_prices_decide() -> None:
    for paging, text in zip(("shadow", "hap"), said("said-of-prices"), strict=True):
        found = re.match(
            rf"{paging}: they save at all of these prices on (.*); it depends on the prices on "
            r"(.*); they cost at all of them on (.*?)\. (.*)", text,
        )  # fmt: skip
        assert found, text
        lines = [line for line in xen(paging) if line.left("n = 64", costs=AGAINST) is not None]
        by = {
            said: [line for line in lines if _verdict(line) == said]
            for said in ("save", "flip", "cost")
        }
        assert [named(found[i]) for i in (1, 2, 3)] == [
            names(by[said]) for said in ("save", "flip", "cost")
        ]
        others = max(_run(line)["density"] for line in by["flip"] + by["cost"])
        dense = [_run(line)["density"] for line in by["save"] if _run(line)["density"] > others]
        if dense:
            assert numbers(found[4])[0] == f"{min(dense):.1f}"
            assert numbers(found[4])[-1] == f"{others:.1f}"


def test_it_sets_groups_against_pml() -> None:
    lines = [line for line in xen("hap") if line.left("PML") is not None]
    left = [line.left("PML") or 0.0 for line in lines]
    spans, better, costs = said("said-of-pml")
    assert numbers(spans) == [f"{min(left):.2f}", f"{max(left):.2f}"]
    dense = [line for line in lines if (line.left("n = 64") or 0) < (line.left("PML") or 0)]
    assert named(better.partition(" on ")[2].removesuffix(".")) == names(dense)
    dear = [line for line in lines if (line.left("n = 64") or 0) > 1]
    assert named(costs.partition("pages on ")[2].removesuffix(".")) == names(dear)


def test_it_spans_bytes_and_pauses_of_each_kind_of_load() -> None:
    kinds: list[Callable[[str], bool]] = [
        lambda share: bool(share) and float(share) <= 0.5,
        lambda share: bool(share) and float(share) > 0.5,
        lambda share: not share,
    ]
    for of_it, text in zip(kinds, said("said-of-bytes"), strict=True):
        parts = text.partition(": ")[2].split("; ")
        asked = ((USUAL, False), (SLOW, True), (USUAL, True), (FAST, True))
        for part, (link, suppress) in zip(parts, asked, strict=True):
            shown = numbers(part.partition("bytes")[2])
            found = [
                line for paging in ("shadow", "hap") for line in xen(paging, link)
                if of_it(line.about["load"].partition(" ")[2])
            ]  # fmt: skip
            expected = []
            for measure in ("wire_bytes", "downtime_s"):
                values = [line.ratio(measure, "n = 64", suppress=suppress) for line in found]
                there = [value for value in values if value is not None]
                expected += [min(there), max(there)]
            assert len(shown) == 4
            assert all(map(_reads, shown, expected)), (part, expected)


RUN_AGAIN = [
    {"workload": "uniform:dirty=0.5link", "paging": "shadow", "group_pages": 1},
    {"workload": "uniform:dirty=0.5link", "paging": "shadow", "group_pages": 64},
    {"workload": "zipf:dirty=1.5link", "paging": "hap", "group_pages": 64},
    {"workload": "uniform:dirty=0.1link", "paging": "shadow", "group_pages": 64,
     "suppress": False, "hypervisor": "xen-2009"},
]  # fmt: skip
"""Of the grid: enough to notice a model under which the page would read otherwise."""


@pytest.mark.parametrize("settings", RUN_AGAIN, ids=lambda each: " ".join(map(str, each.values())))
def test_the_model_still_says_so(settings: dict[str, Any]) -> None:
    """To a twentieth: when it fails, `make answer` and publish anew (examples/answer_tables.py)."""
    usual = {"memory": "64MiB", "link": "1Gbit/s", "zstd_level": 0, "warmup": "500ms"}
    asked = {**usual, **settings}
    point = Point(options_of(asked, REPOSITORY), command_of(asked, REPOSITORY))
    assert point.id in points("answer")
    finished = perform(Task(point.options, model_digest()))
    assert finished.document is not None, finished.error
    load = settings["workload"].replace(":dirty=", " ").removesuffix("link")
    line = Line(
        {"load": load, "paging": settings["paging"]},
        suppress=settings.get("suppress", True), hypervisor=settings.get("hypervisor", "xen"),
    )  # fmt: skip
    kept = line.run(f"n = {settings['group_pages']}")
    assert kept is not None
    slowdown = finished.document["guest"]["slowdown"]
    assert slowdown is not None
    assert 100 * (slowdown - 1) == pytest.approx(kept["overhead"], rel=0.05)
    assert finished.document["bytes"]["wire"] == pytest.approx(kept["wire_bytes"], rel=0.05)
    assert finished.document["time"]["downtime_s"] == pytest.approx(kept["downtime_s"], rel=0.1)
