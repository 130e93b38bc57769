"""What is foretold of a migration, worked by hand."""

from __future__ import annotations

import pytest

from paging_core.units import FRAME_BYTES, NS_PER_S
from source_host.precopy.report import Report
from source_host.precopy.results import RoundStats, Totals
from source_host.states import MigrationState
from source_host.watch.outlook import Outlook, outlook

MEMORY_FRAMES = 1000


def round_of(number: int, frames: int, dirty: int, seconds: float = 1.0) -> RoundStats:
    return RoundStats(
        number, stop_and_copy=False, to_send_frames=frames, data_frames=frames,
        dirty_frames=dirty, duration_ns=int(seconds * NS_PER_S),
    )  # fmt: skip


def picture(
    *done: RoundStats, current: RoundStats | None = None, owed: int = 0, bandwidth: int = 0
) -> Report:
    return Report(
        state=MigrationState.PRE_COPY, settled=False, rounds=done, current=current,
        totals=Totals(), downtime=None, cost=None, verified=False, error=None, memory_digest=0,
        estimated_downtime_ns=0, owed_frames=owed, bandwidth_bytes_per_s=bandwidth,
    )  # fmt: skip


def seen(report: Report, max_rounds: int = 3) -> Outlook:
    return outlook(report, max_rounds, MEMORY_FRAMES)


def test_nothing_is_predicted_before_anything_was_measured() -> None:
    assert seen(picture(owed=1000)) == Outlook(None, None, None, None)


def test_nothing_is_predicted_in_round_1() -> None:
    """How much of memory will be dirty after it is not known, and so nor is an upper bound."""
    first = RoundStats(1, stop_and_copy=False, to_send_frames=1000)
    report = picture(current=first, owed=500, bandwidth=100 * FRAME_BYTES)
    assert seen(report) == Outlook(None, None, None, None)


def test_rates_and_convergence_are_those_of_the_last_round() -> None:
    last = seen(picture(round_of(1, 1000, 999), round_of(2, 400, 100, seconds=2)))
    assert last.dirty_bytes_per_s == 50 * FRAME_BYTES
    assert last.sent_bytes_per_s == 200 * FRAME_BYTES
    assert last.convergence == 0.25


def test_the_debt_shrinks_round_by_round() -> None:
    """100 owed of 200; then 100, 50 live and, paused, 25; at 400 frames a second."""
    report = picture(round_of(1, 400, 200), current=round_of(2, 200, 0), owed=100)
    assert seen(report, max_rounds=4).eta_s == pytest.approx((100 + 100 + 50 + 25) / 400)


def test_a_debt_that_stays_takes_every_round_that_is_left() -> None:
    report = picture(round_of(1, 400, 400), current=round_of(2, 400, 0), owed=400)
    assert seen(report, max_rounds=10_000).eta_s == pytest.approx((400 + 400 * 9999) / 400)


def test_a_debt_that_grows_ends_at_all_of_memory() -> None:
    """400 owed, then 800 and, twice, 1000."""
    report = picture(round_of(1, 200, 400), current=round_of(2, 400, 0), owed=400)
    assert seen(report, max_rounds=4).eta_s == pytest.approx((400 + 800 + 2000) / 200)


def test_the_last_round_is_followed_by_none() -> None:
    rest = RoundStats(4, stop_and_copy=True, to_send_frames=50)
    report = picture(round_of(3, 400, 50), current=rest, owed=20)
    assert seen(report, max_rounds=3).eta_s == pytest.approx(20 / 400)
