"""The cost table: every event has a price with a source, and a file overrides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from paging_core.costs import CostTable, known, names_no_file
from paging_core.default_costs import DEFAULTS
from paging_core.errors import BadCosts
from paging_core.events import CAUSES, FAULT_KINDS, Cause, Event, Fault


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
def test_every_event_has_a_price_and_says_where_it_comes_from(event: Event) -> None:
    price = DEFAULTS[event]
    assert 0 <= price.low <= price.typical <= price.high
    assert price.low < price.high
    assert price.source


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
    assert table.ns(Event.EXIT) == DEFAULTS[Event.EXIT].typical


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


def test_an_interval_is_low_typical_and_high_and_a_number_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "costs.toml"
    path.write_text('[ns]\nfixup = [100, 200, 900]\nexit = 700\n[source]\nfixup = "a thesis"\n')
    table = CostTable.from_toml(path)
    assert (table.ns(Event.FIXUP), table.span_ns(Event.FIXUP)) == (200, (100, 900))
    assert (table.ns(Event.EXIT), table.span_ns(Event.EXIT)) == (700, (700, 700))
    assert (table.source(Event.FIXUP), table.source(Event.EXIT)) == ("a thesis", "")
    default = DEFAULTS[Event.PML_ENTRY]
    assert table.span_ns(Event.PML_ENTRY) == (default.low, default.high)
    assert table.source(Event.PML_ENTRY) == default.source


@pytest.mark.parametrize(("level", "fixup"), [("low", 100), ("typical", 200), ("high", 900)])
def test_a_level_charges_that_end_of_every_interval_and_keeps_the_intervals(
    tmp_path: Path, level: str, fixup: float
) -> None:
    path = tmp_path / "costs.toml"
    path.write_text("[ns]\nfixup = [100, 200, 900]\nexit = 700\n")
    table = CostTable.named(f"{path}:{level}")
    assert (table.ns(Event.FIXUP), table.span_ns(Event.FIXUP)) == (fixup, (100, 900))
    assert (table.ns(Event.EXIT), table.span_ns(Event.EXIT)) == (700, (700, 700))
    default = DEFAULTS[Event.PML_ENTRY]
    assert table.ns(Event.PML_ENTRY) == getattr(default, level)
    assert table.span_ns(Event.PML_ENTRY) == (default.low, default.high)
    assert CostTable.named(level).prices_ns() == {
        event.name.lower(): getattr(DEFAULTS[event], level) for event in Event
    }


def test_the_year_2009_has_exits_of_two_to_four_microseconds() -> None:
    table = CostTable.named("xen-2009")
    assert (table.ns(Event.EXIT), table.span_ns(Event.EXIT)) == (3000, (2000, 4000))
    assert CostTable.named("xen-2009:high").ns(Event.EXIT) == 4000
    assert all(table.source(event) for event in Event)


@pytest.mark.parametrize("name", known())
def test_every_table_by_name_can_be_read_and_says_where_its_prices_come_from(name: str) -> None:
    table = CostTable.named(name)
    assert set(table.sources) == set(table.overrides_ns) == set(table.spans_ns)
    assert names_no_file(name)
    assert names_no_file(f"{name}:low")


def test_a_name_that_is_none_is_a_file() -> None:
    assert names_no_file("high")
    assert not names_no_file("my.toml:high")
    with pytest.raises(BadCosts, match=r"xen-1905"):
        CostTable.named("xen-1905")
    with pytest.raises(BadCosts, match="name no table before the colon"):
        CostTable.named(":high")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[ns]\nfixup = [3, 2, 1]", "low, typical, high must ascend"),
        ("[ns]\nfixup = [1, 3, 2]", "low, typical, high must ascend"),
        ("[ns]\nfixup = [1, 2]", r"is a list of 2; give a number or \[low, typical, high\]"),
        ("[ns]\nfixup = [1, 2, 'x']", "not a number of nanoseconds"),
        ("[ns]\nfixup = [1, 2, nan]", "not a number of nanoseconds"),
        ("[ns]\nfixup = 1\n[source]\nexit = 'x'", r"\[source\] must name events of its \[ns\]"),
        ("[ns]\nfixup = 1\n[source]\nfixup = 3", "the source of 'fixup' is no text"),
        ("source = 3\n[ns]\nfixup = 1\n", r"\[source\] must name events"),
    ],
)
def test_a_bad_interval_or_source_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(text)
    with pytest.raises(BadCosts, match=complaint):
        CostTable.from_toml(path)
