"""The proof at the source: what differs is sent again, once, and no answer is taken unchecked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from paging_core.errors import ContractBroken, PageferryError, VerificationFailed
from paging_core.proof import COMPARED_NODES, Proof, Tags
from source_host.precopy.clock_name import ClockName
from source_host.precopy.report import Report
from source_host.precopy.verification import REPAIRED_FRAMES, Comparison
from source_host.states import MigrationState
from tests.guests.fake import FakeGuest, busy
from tests.keyed import KEY
from tests.source_host.fake_destination import FakeDestination
from tests.source_host.harness import DIGEST_NS, PLAN, Trip, filled
from wire.batch import Batch
from wire.runs import FrameKind

N_FRAMES = 2000
LAST_DRAIN = 5
"""Drains before that of the stop-and-copy."""


def trip_of(spoilt: Sequence[int] = (), again: Sequence[int] = ()) -> Trip:
    """A migration whose destination loses a bit of these frames after it acknowledged them all.

    Args:
        spoilt: damaged behind the stop-and-copy.
        again: damaged behind the repair.
    """
    trip = Trip(filled(FakeGuest(N_FRAMES, busy(0, 900))))

    def spoil(gfns: Sequence[int]) -> Callable[[], None]:
        def damage() -> None:
            trip.destination.frames[np.array(gfns, np.int64), 9] ^= 1

        return damage

    faults = [spoil([])] * LAST_DRAIN + [spoil(spoilt), spoil(again)]
    trip.destination.faults["drain"] = [*faults]
    return trip


def assert_failed(trip: Trip, report: Report, error: type[PageferryError]) -> None:
    assert report.state is MigrationState.FAILED
    assert isinstance(report.error, error), report.error
    assert not report.verified
    assert "commit" not in trip.destination.calls
    assert trip.destination.aborted
    trip.assert_guest_goes_on_here()


@pytest.mark.parametrize("spoilt", [[7], [7, 1500, 1501], range(N_FRAMES), [0, N_FRAMES - 1]])
def test_what_differs_is_sent_again_and_proved_again(spoilt: Sequence[int]) -> None:
    trip = trip_of(spoilt)
    report = trip.run()
    assert report.state is MigrationState.COMPLETED, report.error
    assert report.verified
    assert trip.notes.verdicts == [True]
    assert report.totals.repaired_frames == len(spoilt)
    *_, stop_and_copy, repair = report.rounds
    assert (stop_and_copy.stop_and_copy, stop_and_copy.repair) == (True, False)
    assert (repair.stop_and_copy, repair.repair) == (True, True)
    assert repair.round == stop_and_copy.round + 1
    assert (repair.sent_frames, repair.suppressed_frames) == (len(spoilt), 0)
    sent = [batch for batch in trip.destination.batches if batch.round == repair.round]
    assert [int(g) for batch in sent for g in batch.runs.gfns()] == list(spoilt)
    assert report.totals.unique_frames == N_FRAMES
    assert trip.destination.calls.count("begin_compare") == 1
    trip.assert_arrived()


def test_a_repair_is_part_of_the_downtime() -> None:
    whole, repaired = trip_of().run(), trip_of(range(100)).run()
    assert whole.downtime is not None
    assert repaired.downtime is not None
    assert whole.downtime.verify_ns == 0
    # 100 frames digested, and one message of them and 100 bytes more, at 8 ns a byte.
    assert repaired.downtime.verify_ns == 100 * DIGEST_NS + (100 * 4096 + 100) * 8


def test_frames_that_are_zero_here_are_repaired_without_content() -> None:
    trip = trip_of([1998, 1999])
    trip.guest.memory.frames[1998] = 5
    trip.guest.memory.frames[1999] = 0
    report = trip.run()
    repair = report.rounds[-1]
    assert (repair.data_frames, repair.zero_frames) == (1, 1)
    trip.assert_arrived()


def test_a_write_that_the_tracker_lost_is_found_and_repaired() -> None:
    trip = trip_of()

    def write_unseen(batch: Batch) -> None:
        if batch.sequence == 9:  # round 2: frame 1999 was sent in round 1
            trip.guest.memory.frames[1999, 0] ^= 1

    trip.destination.on_send = write_unseen
    report = trip.run()
    assert report.state is MigrationState.COMPLETED, report.error
    assert report.totals.repaired_frames == 1
    trip.assert_arrived()


def test_a_suppression_that_was_wrong_costs_time_and_not_the_migration() -> None:
    """A digest that collides would look like this: a frame called unchanged that had changed."""
    trip = Trip(filled(FakeGuest(300, busy(10, 60), silent=True)))
    lied: list[int] = []

    def change_unsaid(batch: Batch) -> None:
        unchanged = batch.runs.of_kind(FrameKind.UNCHANGED).gfns()
        if len(unchanged) and not lied:
            lied.append(int(unchanged[0]))
            trip.guest.memory.frames[lied[0], 4000] ^= 1

    trip.destination.on_send = change_unsaid
    report = trip.run()
    assert lied
    assert report.state is MigrationState.COMPLETED, report.error
    trip.assert_arrived()


def test_a_second_difference_ends_it_and_names_the_frames() -> None:
    trip = trip_of([7, 9], again=[9, 1400])
    report = trip.run()
    assert_failed(trip, report, VerificationFailed)
    assert isinstance(report.error, VerificationFailed)
    assert report.error.gfns == (9, 1400)
    assert "still differ after a repair, first at gfn 0x9, 0x578;" in str(report.error)
    assert trip.notes.verdicts == [False]
    assert report.memory_digest == 0
    assert len([r for r in report.rounds if r.repair]) == 1
    assert report.totals.repaired_frames == 2


def test_more_than_a_repair_may_send_is_not_sent() -> None:
    """A guest that stands still does not wait for all of its memory once more."""
    trip = Trip(filled(FakeGuest(REPAIRED_FRAMES + 64)))
    trip.destination.faults["drain"] = [lambda: None, lambda: trip.destination.frames.fill(1)]
    report = trip.run()
    assert_failed(trip, report, VerificationFailed)
    assert isinstance(report.error, VerificationFailed)
    assert report.error.gfns == tuple(range(16))
    assert f"more than the {REPAIRED_FRAMES} frames" in str(report.error)
    assert not any(r.repair for r in report.rounds)


def test_as_much_as_a_repair_may_send_is_sent() -> None:
    trip = Trip(filled(FakeGuest(REPAIRED_FRAMES)))
    trip.destination.faults["drain"] = [lambda: None, lambda: trip.destination.frames.fill(1)]
    report = trip.run()
    assert report.totals.repaired_frames == REPAIRED_FRAMES
    trip.assert_arrived()


FALSE_ANSWERS: dict[str, tuple[Callable[[int, Sequence[int], list[int]], list[int]], str]] = {
    "a node without end": (lambda *_: [0] * 200_000, "answers that 200000 nodes"),
    "the same child over and over": (
        lambda level, nodes, _: [0] if level == 2 else [nodes[0]] * 20,
        "twice or out of order",
    ),
    "far outside": (lambda *_: [2**64 - 1], "nobody asked about"),
    "outside below": (lambda level, *_: [0] if level else [2**40], "nobody asked about"),
    "below zero": (lambda *_: [-1], "nobody asked about"),
    "out of order": (
        lambda level, nodes, _: [*nodes[:2]][::-1] if level < 2 else [0],
        "twice or out of order",
    ),
    "nothing below what differs": (
        lambda level, *_: [0] if level == 2 else [],
        "contradicts itself: node 0 of level 2",
    ),
    "no frame below a leaf that differs": (
        lambda level, nodes, _: list(nodes) if level == 1 else [0] if level == 2 else [31],
        "contradicts itself: node 1 of level 1",
    ),
}


@pytest.mark.parametrize("false_answer", FALSE_ANSWERS)
def test_an_answer_that_cannot_be_is_the_destinations_fault(false_answer: str) -> None:
    trip = trip_of()
    trip.destination.answers, says = FALSE_ANSWERS[false_answer]
    report = trip.run()
    assert_failed(trip, report, ContractBroken)
    assert says in str(report.error)
    assert "the fake destination" in str(report.error)
    assert "bug in pageferry" not in str(report.error)
    assert trip.destination.calls.count("differing") <= 3


def test_a_destination_that_says_that_all_differs_is_asked_a_bounded_number_of_times() -> None:
    trip = trip_of()
    trip.destination.answers = lambda _level, nodes, _differing: list(nodes)
    report = trip.run()
    assert_failed(trip, report, VerificationFailed)
    assert len([r for r in report.rounds if r.repair]) == 1
    assert trip.destination.calls.count("differing") == 2 * 3


class CountingDestination(FakeDestination):
    """Counts the nodes of each question."""

    asked: list[int]

    def differing(self, level: int, nodes: Sequence[int], tags: Tags) -> list[int]:
        assert level <= 2
        assert len(tags) == len(nodes)
        self.asked.append(len(nodes))
        return list(nodes)


def test_questions_are_as_long_as_the_contract_allows_and_no_longer() -> None:
    """Every node of a larger guest, in questions of 4096 at most."""
    frames = np.zeros((3 * COMPARED_NODES, 4096), np.uint8)
    destination = CountingDestination(len(frames))
    destination.asked = []
    difference = Comparison(Proof(frames, KEY), frames, destination).difference()
    assert difference is not None
    assert not difference.complete
    assert destination.asked == [1, 384, COMPARED_NODES, COMPARED_NODES, COMPARED_NODES]


def test_keys_are_drawn_for_each_migration_and_repeated_on_the_virtual_clock() -> None:
    assert PLAN.make_key(7) == PLAN.make_key(7)
    assert PLAN.make_key(7) != PLAN.make_key(8)
    real = replace(PLAN, clock=ClockName.REAL)
    assert real.make_key(7) != real.make_key(7)
