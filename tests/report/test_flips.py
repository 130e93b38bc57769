"""A verdict that is another one within the intervals of the prices says so, and only then.

The rows are of two migrations that ran; what tracking cost them is written over by hand, so that
the ratios can be worked out in the head. A change of 2 % or less is none.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest

from pageferry.report.repeats import repeated
from pageferry.report.sweeps import sweep_report
from pageferry.report.variants import compared
from pageferry.report.verdict import Verdict, verdict
from pageferry.sweep.directory import opened
from pageferry.sweep.table import table_of
from tests.report import sweeps
from tests.sweep.small import point

Ends = tuple[float, float, float]
"""Overhead in percent: typical, all prices low, all high."""
SINGLE: Ends = (4.0, 2.0, 10.0)
_PRICES = "depends on the prices"


def row(n: int, overhead: Ends | None, seed: int = 0) -> dict[str, Any]:
    """Of a migration with groups of n, whose overhead was so much."""
    made = sweeps.row(point(group_pages=n, seed=seed))
    names = ("slowdown", "slowdown_low", "slowdown_high")
    slowdowns = (None,) * 3 if overhead is None else tuple(1 + each / 100 for each in overhead)
    return {**made, **dict(zip(names, slowdowns, strict=True))}


def said_of(rows: list[dict[str, Any]]) -> Verdict:
    return verdict(repeated(compared(table_of(rows)).to_pylist()))


def flips(*groups: Ends | None, single: Ends | None = SINGLE) -> list[str]:
    """What is said of groups of 64 whose overhead was so much, a seed each."""
    rows = [
        row(n, overhead, seed)
        for seed, grouped in enumerate(groups)
        for n, overhead in ((1, single), (64, grouped))
    ]
    return [text for text in said_of(rows).exceptions if _PRICES in text]


@pytest.mark.parametrize(
    ("grouped", "typical", "low", "high"),
    [
        # 2 of 4, 3 of 2, 3 of 10
        ((2.0, 3.0, 3.0), "down (×0.50)", "up (×1.50)", "down (×0.30)"),
        # 3 of 4, 1 of 2, 12 of 10
        ((3.0, 1.0, 12.0), "down (×0.75)", "down (×0.50)", "up (×1.20)"),
        # 5 of 4, 2.5 of 2, 9 of 10
        ((5.0, 2.5, 9.0), "up (×1.25)", "up (×1.25)", "down (×0.90)"),
        # 4 of 4, 1 of 2, 10 of 10
        ((4.0, 1.0, 10.0), "the same to 2 % (×1.00)", "down (×0.50)", "the same to 2 % (×1.00)"),
        # just beyond 2 %: 4.12 of 4, 2 of 2, 10.3 of 10
        ((4.12, 2.0, 10.3), "up (×1.03)", "the same to 2 % (×1.00)", "up (×1.03)"),
    ],
)
def test_a_verdict_that_flips_says_at_which_end_and_by_how_much(
    grouped: Ends, typical: str, low: str, high: str
) -> None:
    (said,) = flips(grouped)
    assert said == (
        f"shadow: tracking overhead on hotcold with n = 64 depends on the prices: {typical}, with "
        f"all of them low {low}, with all of them high {high}"
    )


@pytest.mark.parametrize(
    "grouped",
    [
        (2.0, 1.9, 1.0),  # ×0.50, ×0.95, ×0.10: down at all of them
        (5.0, 2.1, 10.5),  # ×1.25, ×1.05, ×1.05: up
        (4.04, 1.97, 10.1),  # ×1.01, ×0.985, ×1.01: the same to 2 %
        None,  # without a twin nothing is known
    ],
)
def test_a_verdict_that_holds_at_all_prices_says_nothing_of_them(grouped: Ends | None) -> None:
    assert flips(grouped, single=None if grouped is None else SINGLE) == []


def test_seeds_are_judged_together_by_the_mean_of_their_ratios() -> None:
    """Down ×0.25 and ×0.75; low ×1.5 and ×0.9, which is ×1.2; high ×0.5 and ×0.7."""
    (said,) = flips((1.0, 3.0, 5.0), (3.0, 1.8, 7.0))
    assert said.endswith(
        "down (×0.50), with all of them low up (×1.20), with all of them high down (×0.60)"
    )
    # One of two flips, their mean does not: ×1.1 and ×0.5 with all prices low.
    assert flips((2.0, 2.2, 5.0), (2.0, 1.0, 5.0)) == []


def test_each_size_flips_by_itself_and_bytes_and_pauses_never_do() -> None:
    rows = [
        row(1, SINGLE), row(16, (2.0, 3.0, 3.0)), row(64, (2.0, 1.0, 5.0)),
    ]  # fmt: skip
    for each in rows:  # as different as they can be: a pause and bytes have no price
        each["bytes_wire"] *= each["group_pages"]
        each["downtime_s"] *= each["group_pages"]
    found = [text for text in said_of(rows).exceptions if _PRICES in text]
    assert [text.partition(" depends")[0] for text in found] == [
        "shadow: tracking overhead on hotcold with n = 16"
    ]


def test_the_page_shows_it(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as directory:
        for each in (row(1, SINGLE), row(64, (2.0, 3.0, 3.0))):
            text = json.dumps(each)
            (directory.path / "points" / f"{each['point']}.json").write_text(text)
    page = html.unescape(sweep_report(tmp_path / "s"))
    assert (
        "n = 64 depends on the prices: down (×0.50), with all of them low up (×1.50), with all of "
        "them high down (×0.30)"
    ) in page


def test_each_surrounding_and_each_load_flips_by_itself() -> None:
    """A load that flips under HAP does not under shadow, and the one beside it does not at all."""
    loads = ("hotcold:wss=1MiB,write_rate=1M", "uniform:wss=1MiB")
    rows = []
    for paging in ("shadow", "hap"):
        for load in loads:
            for n in (1, 64):
                made = sweeps.row(point(workload=load, paging=paging, group_pages=n))
                ends = SINGLE if n == 1 else (2.0, 1.0, 5.0)
                if paging == "hap" and load == loads[1] and n == 64:
                    ends = (2.0, 3.0, 3.0)
                slowdowns = (1 + each / 100 for each in ends)
                names = ("slowdown", "slowdown_low", "slowdown_high")
                rows.append({**made, **dict(zip(names, slowdowns, strict=True))})
    found = [text for text in said_of(rows).exceptions if _PRICES in text]
    assert len(found) == 1
    assert found[0].startswith("hap: tracking overhead on uniform with n = 64 depends")
