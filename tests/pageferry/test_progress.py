"""What is printed while a migration runs."""

from __future__ import annotations

import io

from rich.console import Console

from pageferry.progress import LiveProgress, PlainProgress, SilentProgress, progress_for
from pageferry.v1 import source_pb2 as pb
from tests.pageferry import statuses


def plain_lines(*seen: pb.MigrationStatus) -> list[str]:
    out = io.StringIO()
    with PlainProgress(Console(file=out, width=40)) as progress:
        for status in seen:
            progress.update(status)
    return out.getvalue().splitlines()


def test_plain_lines_tell_each_round_and_each_phase_once() -> None:
    lines = plain_lines(
        statuses.under_way(), statuses.under_way(), statuses.completed(), statuses.completed()
    )
    assert len(lines) == 4
    assert lines[0].startswith("round 1: sent 4,096 of 4,096 pages in 48 ms")
    assert "340 dirty after it" in lines[0]
    assert lines[1].startswith("pre-copy")
    assert lines[2].startswith("stop-and-copy: sent 340 of 340 pages")
    assert lines[3].startswith("completed")


def test_a_round_tells_how_fast_it_sends_and_how_fast_pages_become_dirty() -> None:
    (line, _) = plain_lines(statuses.under_way())
    assert "moves 333.3 MiB/s of memory, dirties 27.7 MiB/s" in line


def test_plain_lines_hold_no_control_codes() -> None:
    assert "\x1b" not in "".join(plain_lines(statuses.under_way(), statuses.completed()))


def live_text(status: pb.MigrationStatus) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    with LiveProgress(console) as progress:
        progress.update(status)
    return out.getvalue()


def test_the_live_view_shows_the_round_under_way_and_what_a_pause_would_last() -> None:
    text = live_text(statuses.under_way())
    assert "round 2" in text
    assert "85 of 340 pages" in text
    assert "round ends in 4.2 ms" in text
    assert "340 pages became dirty in round 1" in text
    assert "a pause now would last about 5.5 ms" in text


def test_what_goes_on_before_the_migration_is_shown() -> None:
    out = io.StringIO()
    for progress in (
        PlainProgress(Console(file=out)),
        LiveProgress(Console(file=out, force_terminal=True)),
    ):
        with progress:
            progress.doing("booting")
    assert out.getvalue().count("booting") == 2


def test_progress_never_exceeds_its_round() -> None:
    status = statuses.under_way()
    status.current.sent_frames = 400
    assert "340 of 340 pages" in live_text(status)


def test_an_empty_status_can_be_shown() -> None:
    assert "setting up" in live_text(pb.MigrationStatus(state=pb.MIGRATION_STATE_SETUP))


def test_the_view_suits_where_the_output_goes() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    pipe = Console(file=io.StringIO(), force_terminal=False)
    assert isinstance(progress_for(terminal, silent=False), LiveProgress)
    assert isinstance(progress_for(pipe, silent=False), PlainProgress)
    assert type(progress_for(terminal, silent=True)) is SilentProgress


def test_every_state_of_the_contract_has_words() -> None:
    for state in pb.MigrationState.values():
        if state:
            assert plain_lines(pb.MigrationStatus(state=state)) != ["unknown phase"]
