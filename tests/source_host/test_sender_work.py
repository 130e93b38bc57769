"""What the sender digests takes time on the virtual clock, in the pause as well: by hand.

A frame is digested to find out whether it changed since it was last sent; one of zeros is not. A
gigabit is 8 ns a byte, and a message weighs 100 bytes beside its payload.
"""

from __future__ import annotations

import pytest

from paging_core.costs import CostTable
from source_host.precopy.policies import PolicyName
from source_host.precopy.report import Report
from source_host.precopy.results import Downtime
from tests.guests.fake import CLEAN_NS, FakeGuest, busy
from tests.source_host.fake_destination import HEADER_BYTES
from tests.source_host.harness import Trip, filled

FRAMES, WINDOW = 900, 240
"""Of every three frames the first holds zeros: 600 hold something, 160 of the window."""
HELD, HELD_IN_WINDOW = 600, 160
BYTE_NS = 8


def moved(price_ns: float, *, silent: bool, suppress: bool = True) -> tuple[Report, Downtime]:
    """A guest that goes round a window: it writes anew, or what stands there already.

    One pre-copy round of everything takes 20 ms or more, in which 4000 accesses of 5 µs go round
    the window sixteen times; then it is paused.
    """
    guest = filled(FakeGuest(FRAMES, busy(0, WINDOW), silent=silent))
    trip = Trip(
        guest,
        costs=CostTable({"page_digest": price_ns}),
        policy=PolicyName.XEN_2009,
        max_rounds=1,
        suppress=suppress,
    )
    report = trip.run()
    assert report.error is None
    assert report.downtime is not None
    assert [stats.to_send_frames for stats in report.rounds] == [FRAMES, WINDOW]
    assert [batch.round for batch in trip.destination.batches].count(2) == 1
    trip.assert_arrived()
    return report, report.downtime


@pytest.mark.parametrize("price_ns", [0, 200, 800])
def test_a_frame_that_did_not_change_costs_the_pause_its_digest(price_ns: float) -> None:
    report, downtime = moved(price_ns, silent=True)
    last = report.rounds[-1]
    assert (last.suppressed_frames, last.data_frames) == (HELD_IN_WINDOW, 0)
    assert last.duration_ns == HELD_IN_WINDOW * price_ns + HEADER_BYTES * BYTE_NS
    assert downtime.last_round_ns == last.duration_ns


@pytest.mark.parametrize("price_ns", [0, 200, 800])
def test_a_frame_that_changed_is_digested_before_it_is_sent(price_ns: float) -> None:
    """After a round of writing each of the window holds something."""
    last = moved(price_ns, silent=False)[0].rounds[-1]
    assert (last.suppressed_frames, last.data_frames) == (0, WINDOW)
    assert last.duration_ns == WINDOW * price_ns + (WINDOW * 4096 + HEADER_BYTES) * BYTE_NS


@pytest.mark.parametrize("price_ns", [0, 800])
def test_without_suppression_nothing_is_digested(price_ns: float) -> None:
    last = moved(price_ns, silent=True, suppress=False)[0].rounds[-1]
    assert (last.suppressed_frames, last.data_frames) == (0, HELD_IN_WINDOW)
    assert last.duration_ns == (HELD_IN_WINDOW * 4096 + HEADER_BYTES) * BYTE_NS


def test_it_is_in_the_downtime_and_in_the_whole() -> None:
    """600 frames in the round before the pause and 160 in it, 600 ns more each."""
    (cheap, before), (dear, after) = (moved(price_ns, silent=True) for price_ns in (200, 800))
    in_pause_ns, in_round_ns = HELD_IN_WINDOW * 600, HELD * 600
    assert after.total_ns - before.total_ns == in_pause_ns
    assert dear.rounds[0].duration_ns - cheap.rounds[0].duration_ns == in_round_ns
    assert dear.totals.total_ns - cheap.totals.total_ns == in_round_ns + in_pause_ns
    assert before.suspend_ns == after.suspend_ns == CLEAN_NS
