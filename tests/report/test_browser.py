"""Pages in headless Chromium: wide, on a phone, in the dark and on paper.

A chart may be drawn and unreadable: labels on each other, or 33 million pixels of nothing.
Where there is no Chromium these tests are left out; `.ci/run` sees to it that there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from pageferry.report.charts import chart_of, spec_of
from pageferry.report.flows import flow_report
from pageferry.report.page import Section, page
from pageferry.report.sweeps import sweep_report
from pageferry.sweep.directory import opened
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.work import Task, perform
from tests.report.browser import (
    CHROMIUM,
    PAPER_PX,
    PHONE_PX,
    PRINTED_PX,
    WIDE_PX,
    Drawn,
    draw,
    printed,
)
from tests.sweep.small import CROWDED, point

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium draws the pages, and there is none: install chromium"
)
MAX_HEIGHT_PX = 30_000
EVERY_KIND: list[dict[str, Any]] = [
    {}, {"group_pages": 16}, {"group_pages": 64}, {"group_pages": "adaptive"},
    {"clean": "clear-log"}, {"clean": "write-protect"}, {"group_pages": 16, "group_trigger": 2},
    {"group_pages": 16, "d_bit_filter": True}, {"group_pages": 16, "group_scope": "physical"},
    {"paging": "hap"}, {"paging": "hap", "group_pages": 16}, {"paging": "hap", "pml": True},
    {"seed": 1}, {"seed": 1, "group_pages": 16},
    {"link": "100Mbit/s"}, {"link": "100Mbit/s", "group_pages": 16},
]  # fmt: skip
"""Every kind of variant, a repetition, and another link."""
FLOWS: list[dict[str, Any]] = [{}, {"group_pages": 16}]


def swept(where: Path, points: list[Point]) -> str:
    """The page of points that are run here."""
    with opened(where) as directory:
        for each in points:
            options, flow = each.options, directory.flow_of(each)
            if each.flow:
                options = replace(options, flow=str(flow))
            directory.keep(each, perform(Task(options, model_digest(), each.flow)))
    return sweep_report(where)


def two_points(where: Path) -> str:
    """And one that fails."""
    return swept(where, [*(point(group_pages=n) for n in (1, 64)), point(**CROWDED)])


def every_kind(where: Path) -> str:
    return swept(where, [point(**each, flow=each in FLOWS) for each in EVERY_KIND])


def flow(where: Path) -> str:
    with_flow = point(flow=True, group_pages=16)
    swept(where, [with_flow])
    return flow_report(where / "flows" / with_flow.id)


def sound(shown: Drawn) -> None:
    """Nothing on the console, an end of the page, and texts that can be read."""
    assert shown.said == ()
    assert shown.height < MAX_HEIGHT_PX
    assert [chart.title for chart in shown.charts if chart.drawn is None] == []
    assert shown.collisions() == []
    assert shown.cut() == []
    for chart in shown.charts:
        if any("× single pages" in text for text, _ in chart.texts):
            centres = [(each.left + each.right) / 2 for each in chart.points]
            assert max(centres) - min(centres) > 0.5 * (chart.place.right - chart.place.left), (
                f"{chart.title}: its points stand in a corner"
            )


# One test for each page, so that a test alone makes no other page.
@pytest.mark.parametrize("page_of", [two_points, every_kind, flow])
def test_a_page_can_be_read_and_printed(tmp_path: Path, page_of: Callable[[Path], str]) -> None:
    """Wide, on a phone and in the dark, and on paper, where charts are as wide as it."""
    made = page_of(tmp_path / "made")
    for width in (WIDE_PX, PHONE_PX):
        shown = draw(made, width, dark=width == PHONE_PX)
        assert len(shown.charts) >= 2
        assert all(len(chart.texts) > 2 for chart in shown.charts)
        sound(shown)
        narrow = width == PHONE_PX
        for title, hidden in shown.tables:
            if title.startswith("Settings") or not (narrow or title == "Every run"):
                assert hidden <= 0, f"{title}: not all of the table is seen"
    for prose in re.findall(r'<p class="(?:note|said)">(.*?)</p>', made):
        assert not re.search(r"[*`_]", prose), prose
    for chart in draw(made, PRINTED_PX).charts:
        assert chart.drawn is not None
        assert PAPER_PX / (chart.drawn.right - chart.drawn.left) < 1.5, f"{chart.title}: giant"
    paper = printed(made)
    assert paper.startswith(b"%PDF-")
    assert re.search(rb"/Type\s*/Page\b", paper)
    shown = draw(made, PAPER_PX, printed=True)
    sound(shown)
    for chart in shown.charts:
        assert chart.drawn is not None
        assert chart.drawn.right - chart.drawn.left > 0.9 * PAPER_PX, chart.title


def broken(**changes: Any) -> str:
    """A page of one chart, with something in it that nobody could read."""
    rows = [{"x": 1.0 + n / 1000, "y": 1.0, "name": f"label {n}"} for n in range(3)]
    chart = chart_of(rows).mark_text().encode(x="x:Q", y=alt.Y("y:Q", axis=None), text="name:N")
    return page("Broken", ["A page."], [Section("A chart", charts=[spec_of(chart, "c") | changes])])


def test_a_page_that_cannot_be_read_is_found_out() -> None:
    on_each_other = draw(broken(), WIDE_PX)
    assert any("label 0" in found and "label 1" in found for found in on_each_other.collisions())
    endless = draw(broken(height=33_554_432), WIDE_PX)
    assert endless.height >= MAX_HEIGHT_PX
    outdated = draw(broken(**{"$schema": "https://vega.github.io/schema/vega-lite/v2.json"}), 700)
    assert any("v2" in said for said in outdated.said)
    undrawn = draw(broken(mark="nothing"), WIDE_PX)
    assert any(said.startswith(("rejected", "error")) for said in undrawn.said)
