"""Grids: which combinations are run, and what is refused before anything is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pageferry.cli.axes import command_of, options_of
from pageferry.cli.run_sweep import points_of
from pageferry.settings import AXES
from pageferry.sweep.grid import Grid, read_grids
from paging_core.errors import BadOption
from tests.pageferry.hosts import pageferry
from tests.sweep.small import arguments, point


def grids(tmp_path: Path, text: str) -> list[Grid]:
    file = tmp_path / "grid.toml"
    file.write_text(text)
    return read_grids(file, list(AXES))


def test_every_combination_once_the_load_slowest(tmp_path: Path) -> None:
    (grid,) = grids(tmp_path, 'group_pages = [1, 64]\nworkload = ["idle"]\ntrace = ["a", "b"]\n')
    assert [dict(settings) for settings in grid.combinations()] == [
        {"workload": "idle", "group_pages": 1},
        {"workload": "idle", "group_pages": 64},
        {"trace": "a", "group_pages": 1},
        {"trace": "a", "group_pages": 64},
        {"trace": "b", "group_pages": 1},
        {"trace": "b", "group_pages": 64},
    ]


def test_grids_of_their_own_share_what_stands_above_them(tmp_path: Path) -> None:
    first, second = grids(
        tmp_path,
        """
        memory = "4MiB"
        seed = [1, 2]
        [[grid]]
        paging = "shadow"
        flow = true
        [[grid]]
        paging = "hap"
        seed = 3
        """,
    )
    assert first.axes == {"memory": ["4MiB"], "seed": [1, 2], "paging": ["shadow"]}
    assert first.flow
    assert second.axes == {"memory": ["4MiB"], "seed": [3], "paging": ["hap"]}
    assert not second.flow


def test_an_option_replaces_an_axis_and_a_load_every_load() -> None:
    grid = Grid("g", {"workload": ["idle"], "trace": ["a"], "seed": [1]})
    assert grid.overridden({"trace": ["b"]}).axes == {"seed": [1], "trace": ["b"]}
    assert grid.overridden({"seed": [2, 3]}).axes["seed"] == [2, 3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no axis"),
        ("group_page = [1]", "did you mean group_pages?"),
        ("banana = 1", "the axes are memory"),
        ("seed = []", "axis seed has no values"),
        ("seed = [[1]]", "no value of axis seed"),
        ("seed = ", "is not TOML"),
        ("flow = 3", "flow is true or false"),
        ("grid = 3", r"begins with \[\[grid\]\]"),
        ('seed = 1\n[[grid]]\nsed = "x"', "grid 1: there is no axis 'sed'; did you mean seed?"),
    ],
)
def test_a_file_that_is_no_grid(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadOption, match=says):
        grids(tmp_path, text)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"memory": "1000"}, "memory = 1000: .*not a positive multiple"),
        ({"link": "0bit/s"}, "carries nothing"),
        ({"paging": "maybe"}, "paging = maybe: "),
        ({"pml": "yes"}, "pml is true or false"),
        ({"group_pages": True}, "group_pages = true cannot be"),
    ],
)
def test_a_value_that_its_axis_cannot_have(settings: dict[str, object], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        options_of(settings, Path.cwd())  # type: ignore[arg-type]


def test_switches_that_turn_something_off_are_axes_of_that_something() -> None:
    assert not options_of({"suppress": False}, Path.cwd())["suppress"]
    assert options_of({"suppress": True}, Path.cwd())["suppress"]
    assert command_of({"suppress": False}, Path.cwd()) == "pageferry migrate --no-suppress"
    assert command_of({"suppress": True}, Path.cwd()) == "pageferry migrate"


def test_what_is_equal_has_one_name_however_it_was_typed() -> None:
    same = point(memory="4096KiB", paging="shadow", clean="blow", group_pages="1")
    assert same.id == point().id
    assert point(seed=1).id != point().id


def test_files_are_found_from_where_the_grid_was_named(tmp_path: Path) -> None:
    options = options_of({"trace": "x.parquet"}, tmp_path)
    assert options["trace"] == str(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "an empty sweep"),
        (["--paging", "shadow,hap", "--pml", "true"], "paging = shadow.*needs --paging hap"),
        (["--group-pages", "3"], "not a power of two"),
        (["--pml", "perhaps"], "not true or false"),
        (["nowhere.toml"], "cannot read nowhere.toml"),
        (["--seed", "1", "--jobs", "2", "--scheduler", "tcp://x:1"], "--jobs is about this"),
        (["--workload", "nonsense"], "nonsense"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named_before_anything_runs(
    tmp_path: Path, options: list[str], says: str
) -> None:
    out = tmp_path / "out"
    done = pageferry("sweep", *options, "--out", str(out))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(says, done.stderr), done.stderr
    assert not out.exists()


def test_a_dry_run_lists_commands_that_ask_for_the_same_points(tmp_path: Path) -> None:
    axes_given = ["--group-pages", "1,16", "--paging", "hap", "--workload", "idle"]
    done = pageferry("sweep", *axes_given, "--out", str(tmp_path / "out"), "--dry-run")
    assert done.returncode == 0, done.stderr
    commands = [arguments(line) for line in done.stdout.splitlines()]
    assert commands == [
        ["migrate", "--workload", "idle", "--paging", "hap", "--group-pages", n]
        for n in ("1", "16")
    ]
    assert not (tmp_path / "out").exists()


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["answer", "answer-quick"])
def test_the_shipped_grids_can_be_run_and_half_of_their_generated_loads_converge(name: str) -> None:
    """Of the loads that are given by their rate, what forks (churn) writes more than is carried."""
    grids = read_grids(EXAMPLES / f"{name}.toml", list(AXES))
    assert points_of(grids, EXAMPLES.parent)
    first = [str(load) for grid in grids for load in grid.axes.get("workload", ())]
    small = {load for load in first if "wss=128MiB" not in load and "wss=512MiB" not in load}
    shares = {load: re.search(r"dirty=([\d.]+)link", load) for load in small}
    below = [load for load, found in shares.items() if found and float(found[1]) <= 0.5]
    assert len(below) * 2 == len(small)


def test_the_quick_answer_is_a_quarter_of_the_answer_or_less() -> None:
    sizes = [
        len(points_of(read_grids(EXAMPLES / f"{name}.toml", list(AXES)), EXAMPLES.parent))
        for name in ("answer", "answer-quick")
    ]
    assert sizes[1] <= sizes[0] / 4
