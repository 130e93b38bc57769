"""Each finding about the first answer has a test that would have found it; some are here."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "paging_core" / "README.md"
ANSWER: dict[str, Any] = tomllib.loads((ROOT / "examples" / "answer.toml").read_text())
GRIDS: list[dict[str, Any]] = [
    {**{k: v for k, v in ANSWER.items() if k != "grid"}, **grid} for grid in ANSWER["grid"]
]
"""Each with what stands above them all."""


def named_tests() -> list[tuple[str, str]]:
    """File and name; a name without a file is of the file before it in its row."""
    found: list[tuple[str, str]] = []
    for line in LIST.read_text().splitlines():
        file = ""
        for given, name in re.findall(r"`([\w/.]*)::(\w+)`", line):
            file = given or file
            found.append((file, name))
    return found


def values(setting: str) -> set[Any]:
    """All that the grids of the answer give a setting."""
    given = (grid[setting] for grid in GRIDS if setting in grid)
    return set(chain.from_iterable(v if isinstance(v, list) else [v] for v in given))


def test_every_row_names_a_test() -> None:
    rows = [line for line in LIST.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 14
    assert all("::" in row for row in rows)


@pytest.mark.parametrize(("file", "name"), sorted(set(named_tests())))
def test_the_tests_that_are_named_are_there(file: str, name: str) -> None:
    assert f"\ndef {name}(" in (ROOT / file).read_text()


def test_the_answer_is_asked_of_every_link_size_and_hypervisor() -> None:
    assert values("link") >= {"300Mbit/s", "1Gbit/s", "10Gbit/s"}
    assert values("memory") >= {"64MiB", "256MiB", "1GiB"}
    assert values("hypervisor") >= {"xen-2009", "kvm"}
    assert any("hypervisor" not in grid for grid in GRIDS)  # xen is the default


def test_the_year_2009_has_its_own_policy_and_prices_and_no_digests() -> None:
    """What `xen-2009` brings with it is not set to something else; digests came later."""
    of_then = [grid for grid in GRIDS if grid.get("hypervisor") == "xen-2009"]
    assert of_then
    for grid in of_then:
        assert grid["suppress"] is False
        assert "policy" not in grid
        assert str(grid.get("costs", "xen-2009")).startswith("xen-2009")


def test_recorded_programs_are_asked_and_one_that_hardly_writes_is_among_them() -> None:
    """redis serving GETs wrote the fewest frames of a group of 64, and there groups cost."""
    named = {Path(trace).stem for trace in values("trace") if trace}
    assert {"redis", "sqlite", "redis-get"} <= named
