"""The cost table: every event has a price with a source, and a file overrides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from paging_core.costs import DEFAULTS, CostTable
from paging_core.errors import BadCosts
from paging_core.events import CAUSES, FAULT_KINDS, Cause, Event, Fault


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
def test_every_event_has_a_price_and_says_where_it_comes_from(event: Event) -> None:
    assert DEFAULTS[event].ns >= 0
    assert DEFAULTS[event].source


def test_prices_reach_the_kernels_as_picoseconds_by_event() -> None:
    prices = CostTable({"fixup": 1.5, "exit": 0}).as_picoseconds()
    assert prices.dtype.name == "int64"
    assert len(prices) == len(Event)
    assert (prices[Event.FIXUP], prices[Event.EXIT], prices[Event.ACCESS]) == (1500, 0, 1000)


def test_a_file_overrides_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "costs.toml"
    path.write_text("[ns]\nfixup = 1500\nshadow_page_build = 2500.25\n")
    table = CostTable.from_toml(path)
    assert table.ns(Event.FIXUP) == 1500
    assert table.ns(Event.SHADOW_PAGE_BUILD) == 2500.25
    assert table.ns(Event.EXIT) == DEFAULTS[Event.EXIT].ns


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"must hold one table \[ns\]"),
        ("fixup = 3", r"must hold one table \[ns\]"),
        ("[ns]\n[us]\n", r"must hold one table \[ns\]"),
        ("ns = 3", r"must hold one table \[ns\]"),
        ("[ns]\nfixup = -1", r"fixup = -1 is not a number of nanoseconds"),
        ("[ns]\nfixup = nan", r"fixup = nan is not a number of nanoseconds"),
        ("[ns]\nfixup = inf", r"fixup = inf is not a number of nanoseconds"),
        ("[ns]\nfixup = 1000000.5", r"fixup = 1000000.5 is not .* from 0 to 1000000"),
        ("[ns]\nfixup = true", r"fixup = True is not a number of nanoseconds"),
        ("[ns]\nfixup = '3'", r"fixup = '3' is not a number of nanoseconds"),
        ("[ns]\nfix_up = 3", r"'fix_up' is no event of the model; known: access, "),
        ("[ns\n", r"costs\.toml is not TOML"),
        ("[ns]\nfixup = 1\nfixup = 2", r"costs\.toml is not TOML"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(text)
    with pytest.raises(BadCosts, match=complaint):
        CostTable.from_toml(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCosts, match=r"nowhere\.toml"):
        CostTable.from_toml(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCosts, match=r"binary\.toml"):
        CostTable.from_toml(tmp_path / "binary.toml")


def test_faults_and_causes_have_the_names_that_results_use() -> None:
    assert tuple(fault.name.lower() for fault in sorted(Fault)) == FAULT_KINDS
    assert tuple(cause.name.lower() for cause in sorted(Cause)) == CAUSES
    assert FAULT_KINDS[Fault.FIXUP] == "fixup"
