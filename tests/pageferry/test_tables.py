"""The closing tables and what two results say beside each other."""

from __future__ import annotations

import copy
import io

import pytest
from rich.console import Console

from pageferry.comparison import conclusions, labels
from pageferry.document import Document, document_of
from pageferry.fitting import Fitted, stacked
from pageferry.tables import rounds, summary
from tests.pageferry import statuses


def single() -> Document:
    return document_of(statuses.completed(), statuses.GUEST)


def grouped() -> Document:
    document = copy.deepcopy(single())
    document["config"]["group_pages"] = 64
    document["faults"]["fixup"] = 5
    document["guest"]["slowdown"] = 1.02
    document["guest"]["range"]["low"]["slowdown"] = 1.021
    document["guest"]["range"]["high"]["slowdown"] = 1.024
    document["pages"]["falsely_dirty"] = 400
    document["bytes"]["wire"] = 13_400_000
    return document


def text(table: Fitted, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def row(table: Fitted, label: str) -> list[str]:
    """Cells of the line that begins with a label."""
    (line,) = [line for line in text(table).splitlines() if line.strip().startswith(label)]
    return line.split(label, 1)[1].split()


def test_every_figure_of_the_result_is_in_the_table() -> None:
    table = summary([single()], ["this"])
    assert row(table, "rounds") == ["2"]
    between = ["(45.5", "µs", "to", "208", "µs)"]
    assert row(table, "fixup faults") == ["75", "µs", "7.5", "%", *between]
    assert row(table, "rebuilding shadows") == ["30", "µs", "3.0", "%"]
    assert row(table, "unattributed") == ["10", "µs", "1.0", "%"]
    assert row(table, "tracking overhead") == ["+11.9", "%", "(+11.9", "%", "to", "+16.8", "%)"]
    assert row(table, "pages sent") == ["4,436"]
    assert row(table, "unique") == ["4,096"]
    assert row(table, "resent") == ["340"]
    assert row(table, "suppressed") == ["(unchanged)", "40"]
    assert row(table, "falsely dirty") == ["40"]
    assert row(table, "frames really written") == ["300"]
    assert row(table, "of an aligned group of 4 ") == ["2.0"]
    assert row(table, "of an aligned group of 512") == ["37.5"]
    assert row(table, "raw bytes") == ["17.3", "MiB"]
    assert row(table, "bytes on the wire") == ["6.4", "MiB"]
    assert row(table, "total time") == ["54", "ms"]
    assert row(table, "downtime") == ["6.19", "ms"]
    assert row(table, "verified") == ["yes,", "every", "page"]


def test_what_never_happened_takes_no_line() -> None:
    assert "PML" not in text(summary([single()], ["this"]))
    document = single()
    document["guest"]["time_ns"]["pml"] = 5_000
    assert "draining PML buffers" in text(summary([document], ["this"]))


def test_a_document_without_any_round_can_be_shown() -> None:
    failed = document_of(statuses.failed(), statuses.GUEST)
    assert row(summary([failed], ["this"]), "verified") == ["no"]


def test_two_results_have_a_ratio_beside_them() -> None:
    table = summary([single(), grouped()], ["1", "64"])
    assert row(table, "falsely dirty") == ["40", "400", "10.00×"]
    assert row(table, "bytes on the wire")[-1] == "2.00×"


def test_one_line_per_round_and_nothing_dirty_after_the_last() -> None:
    lines = text(rounds(single()["rounds"])).splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:3] == ["1", "4,096", "2,730"]
    assert lines[3].split()[0] == "stop-and-copy"
    assert lines[3].split()[-2:] == ["5.6", "ms"]
    assert "skipped" not in lines[0]


def test_a_repair_is_shown_where_there_was_one() -> None:
    document = document_of(statuses.repaired(), statuses.GUEST)
    assert row(summary([document], ["this"]), "repaired after the proof") == ["3"]
    assert text(rounds(document["rounds"])).splitlines()[-1].split()[:3] == ["repair", "3", "3"]
    assert "repair" not in text(summary([single()], ["this"]))


def test_columns_are_named_after_what_differs() -> None:
    assert labels([single(), grouped()], ["a", "b"]) == ["group_pages 8", "group_pages 64"]


def test_columns_are_named_after_their_files_when_nothing_differs() -> None:
    assert labels([single(), single()], ["a", "b"]) == ["a", "b"]


def test_the_conclusions_say_which_way_it_went() -> None:
    faults, network = conclusions(single(), grouped())
    assert "5 fixup faults instead of 50 (−90 %)" in faults
    cost = "tracking cost it +2.00 % (+2.00 % to +2.40 %) of its time instead of +11.9 % "
    assert f"{cost}(+11.9 % to +16.8 %) (×0.17)" in faults
    assert "400 pages" in network
    assert "12.8 MiB instead of 6.4 MiB (+100 %)" in network
    worse, better = conclusions(grouped(), single())
    assert "(+900 %)" in worse
    assert "(−50 %)" in better


WIDE = [
    ["one", *(str(10**n) for n in range(1, 12))],
    ["two", *(str(7 * 10**n) for n in range(1, 12))],
]


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_no_digit_is_ever_cut(width: int) -> None:
    table = stacked(["row", *(f"column {n}" for n in range(1, 12))], WIDE)
    shown = text(table, width)
    assert all(len(line) <= width for line in shown.splitlines())
    for cell in (cell for line in WIDE for cell in line):
        assert cell in shown.split()
    assert "…" not in shown


@pytest.mark.parametrize("width", [40, 80])
def test_the_tables_of_a_migration_fit_a_narrow_terminal(width: int) -> None:
    for table in (summary([single(), grouped()], ["1", "64"]), rounds(single()["rounds"])):
        wide, narrow = text(table, 200), text(table, width)
        assert all(len(line) <= width for line in narrow.splitlines())
        digits = {word for word in wide.split() if any(c.isdigit() for c in word)}
        assert digits <= set(narrow.split())


def test_a_figure_goes_on_below_itself_before_its_column_does() -> None:
    """Where there is room it stands in one line; never is what lies between two ends broken."""
    table = summary([single(), grouped()], ["1", "64"])
    between = "(+11.9 % to +16.8 %)"
    assert f"+11.9 % {between}" in text(table, 120)
    narrow = text(table, 80)
    assert between in narrow
    assert f"+11.9 % {between}" not in narrow
    assert narrow.split("\n")[0].split() == ["1", "64"], "both results beside each other"
    for width in (40, 60):
        assert between in text(table, width)


def test_a_cell_that_fits_nowhere_is_folded() -> None:
    shown = text(stacked(["row", "number"], [["a", "1234567890" * 4]]), 20)
    assert "".join(shown.split("─")[-1].split()).removeprefix("a") == "1234567890" * 4
