"""Whole journeys of a plain-Python guest to a destination in memory."""

from __future__ import annotations

import numpy as np
import pytest

from paging_core.guest import Guest
from source_host.precopy.policies import PolicyName
from source_host.precopy.transport import Transport
from source_host.states import MigrationState
from tests.guests.fake import FakeGuest, busy
from tests.source_host.fake_destination import FakeDestination
from tests.source_host.harness import DIGEST_NS, Trip, filled
from wire.hosting.guests.states import GuestState
from wire.memory_digest import digest_memory
from wire.runs import FrameKind


def test_the_interfaces_are_small_enough_to_be_faked() -> None:
    guest: Guest = FakeGuest(256)
    transport: Transport = FakeDestination(256)
    assert guest.n_frames == len(transport.frames) if isinstance(transport, FakeDestination) else 0


@pytest.mark.parametrize("policy", PolicyName)
@pytest.mark.parametrize("suppress", [True, False])
def test_every_policy_moves_a_busy_guest_whole(policy: PolicyName, *, suppress: bool) -> None:
    trip = Trip(filled(FakeGuest(2500, busy(100, 700))), policy=policy, suppress=suppress)
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert report.error is None
    assert report.verified
    trip.assert_arrived()
    assert trip.life.state is GuestState.MOVED
    assert trip.destination.handover is not None
    assert trip.destination.handover.state == trip.guest.state()
    assert report.memory_digest == digest_memory(trip.destination.frames)
    assert trip.destination.closed
    assert not trip.destination.aborted


def test_states_follow_the_journey() -> None:
    trip = Trip(FakeGuest(300, busy(0, 10)))
    trip.run()
    assert trip.notes.states == [
        "pre_copy",
        "stop_and_copy",
        "verifying",
        "committing",
        "completed",
    ]


def test_xen_sends_five_live_rounds_of_a_busy_guest_with_four_cleans_between() -> None:
    trip = Trip(filled(FakeGuest(2000, busy(0, 900))))
    report = trip.run()
    assert [r.stop_and_copy for r in report.rounds] == [False] * 5 + [True]
    assert [r.to_send_frames for r in report.rounds] == [2000, 900, 900, 900, 900, 900]
    assert len(trip.notes.cleans) == 5  # four live ones and the one of the pause


def test_xen_sends_the_last_few_frames_live_once_more() -> None:
    # 49 frames are dirty after round 1: under 50, so they go live, and then comes the pause.
    trip = Trip(filled(FakeGuest(2000, busy(0, 49))))
    report = trip.run()
    assert [(r.to_send_frames, r.stop_and_copy) for r in report.rounds] == [
        (2000, False),
        (49, False),
        (49, True),
    ]


@pytest.mark.parametrize("policy", PolicyName)
def test_a_round_that_would_send_nothing_ends_pre_copy(policy: PolicyName) -> None:
    trip = Trip(FakeGuest(2000), policy=policy)
    report = trip.run()
    assert [(r.round, r.to_send_frames, r.stop_and_copy) for r in report.rounds] == [
        (1, 2000, False),
        (2, 0, True),
    ]
    assert len(trip.notes.cleans) == 2


def test_xen_2009_peeks_before_each_batch_and_skips_what_is_dirty_again() -> None:
    # One write per 10 ms: during round 1 frames 1023 and 1030 are written before the second
    # batch of 1024 begins, so 1023 (sent already) is not skipped and 1030 is.
    writes = {0: 1023, 1: 1030}
    guest = FakeGuest(2048, lambda position: writes.get(position, 5), access_ns=10_000_000)
    guest.memory.frames[:] = 7
    trip = Trip(guest, policy=PolicyName.XEN_2009)
    report = trip.run()
    first = report.rounds[0]
    assert (first.to_send_frames, first.sent_frames, first.skipped_frames) == (2048, 2047, 1)
    assert report.totals.skipped_frames == 1
    trip.assert_arrived()


def test_a_skipped_frame_that_the_clean_no_longer_reports_is_still_sent() -> None:
    # The trap of the D-bit filter: a peek shows a frame of an opened group as dirty, so it is
    # skipped; the clean then finds that nobody wrote it and drops it from the bitmap.
    guest = filled(FakeGuest(2048, busy(0, 3), filtered=frozenset(range(600, 640))))
    trip = Trip(guest, policy=PolicyName.XEN_2009)
    report = trip.run()
    assert report.state is MigrationState.COMPLETED, report.error
    assert report.rounds[0].skipped_frames == 40
    assert report.totals.unique_frames == 2048
    trip.assert_arrived()


def test_qemu_stops_when_the_rest_fits_the_downtime_limit() -> None:
    # 1 Gbit/s carries 4096 bytes in 32.8 µs and a limit of 10 ms is good for 305 frames; the
    # guest writes 200 of them over and over.
    trip = Trip(
        filled(FakeGuest(4096, busy(0, 200))),
        policy=PolicyName.QEMU,
        downtime_limit_ns=10_000_000,
    )
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert report.rounds[-1].stop_and_copy
    assert len(report.rounds) == 2
    assert report.downtime is not None
    assert report.downtime.last_round_ns <= 10_000_000
    trip.assert_arrived()


def test_qemu_carries_what_an_early_sync_left_over_into_the_last_round() -> None:
    trip = Trip(
        filled(FakeGuest(8192), seed=3), policy=PolicyName.QEMU, downtime_limit_ns=50_000_000
    )
    report = trip.run()
    first, last = report.rounds
    # Bandwidth is measured after 100 ms; then the round ends once the rest fits 50 ms.
    assert first.sent_frames < 8192
    assert last.to_send_frames == 8192 - first.sent_frames
    assert last.to_send_frames * 4096 <= 6_250_000
    assert first.skipped_frames == 0
    trip.assert_arrived()


def test_qemu_gives_up_converging_after_its_round_limit() -> None:
    trip = Trip(
        filled(FakeGuest(600, busy(0, 600))),
        policy=PolicyName.QEMU,
        downtime_limit_ns=1_000_000,
        max_rounds=4,
    )
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert [r.stop_and_copy for r in report.rounds] == [False] * 4 + [True]
    assert report.downtime is not None
    assert report.downtime.total_ns > 1_000_000


def test_unchanged_content_crosses_as_a_digest() -> None:
    guest = FakeGuest(300, busy(10, 60), silent=True)
    guest.memory.frames[:] = 9
    trip = Trip(guest)
    report = trip.run()
    assert report.rounds[1].suppressed_frames == 60
    assert report.rounds[1].data_frames == 0
    assert report.rounds[1].wire_bytes == 100
    assert report.totals.suppressed_frames == sum(r.suppressed_frames for r in report.rounds)


def test_without_suppression_unchanged_content_crosses_again() -> None:
    guest = FakeGuest(300, busy(10, 60), silent=True)
    guest.memory.frames[:] = 9
    trip = Trip(guest, suppress=False)
    report = trip.run()
    assert report.totals.suppressed_frames == 0
    assert report.rounds[1].data_frames == 60
    assert report.rounds[1].raw_bytes == 60 * 4096


def test_zero_frames_cross_without_content() -> None:
    trip = Trip(filled(FakeGuest(300)))
    report = trip.run()
    assert report.totals.zero_frames == 100
    assert report.totals.data_frames == 200
    assert report.rounds[0].raw_bytes == 200 * 4096
    kinds = np.concatenate([batch.runs.kinds() for batch in trip.destination.batches])
    assert np.count_nonzero(kinds == FrameKind.ZERO) == 100


def test_messages_hold_a_mebibyte_at_most_and_less_if_the_destination_says_so() -> None:
    trip = Trip(FakeGuest(1024))
    trip.run()
    assert {batch.runs.n_frames for batch in trip.destination.batches} == {256, 0}
    small = Trip(FakeGuest(1024))
    small.destination.max_payload_bytes = 10 * 4096
    small.run()
    assert max(batch.runs.n_frames for batch in small.destination.batches) == 10


def test_every_round_is_closed_once_whatever_its_frames() -> None:
    for policy in PolicyName:
        guest = filled(FakeGuest(1500, busy(0, 1400)))
        trip = Trip(guest, policy=policy, downtime_limit_ns=20_000_000)
        report = trip.run()
        batches = trip.destination.batches
        closing = [batch.round for batch in batches if batch.end_of_round]
        assert closing == [r.round for r in report.rounds]
        assert [b.round for b in batches] == sorted(b.round for b in batches)


def test_totals_add_up() -> None:
    trip = Trip(filled(FakeGuest(1000, busy(0, 300))))
    report = trip.run()
    totals = report.totals
    assert totals.sent_frames == sum(r.sent_frames for r in report.rounds)
    assert totals.unique_frames == 1000
    assert totals.resent_frames == totals.sent_frames - 1000
    assert totals.sent_frames == sum(b.runs.n_frames for b in trip.destination.batches)
    assert totals.raw_bytes == totals.sent_frames * 4096
    assert totals.wire_bytes == sum(100 + len(b.payload) for b in trip.destination.batches)
    assert trip.notes.rounds[-1] == report.rounds[-1]
    assert trip.notes.verdicts == [True]


def test_a_paused_guest_moves_without_running() -> None:
    trip = Trip(filled(FakeGuest(600, busy(0, 100))), running=False)
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert trip.guest.position == 0
    assert [r.to_send_frames for r in report.rounds] == [600, 0]
    trip.assert_arrived()


def test_warm_up_runs_the_guest_untracked_before_round_1() -> None:
    trip = Trip(FakeGuest(600, busy(0, 100)), warmup_ns=50_000_000)
    begun: list[int] = []
    trip.destination.on_send = lambda _batch: begun.append(trip.guest.time_ns)
    report = trip.run()
    # The first message leaves when its frames are digested: the 100 that hold something.
    assert begun[0] == 50_000_000 + 100 * DIGEST_NS
    assert report.totals.total_ns == trip.notes.reports[-1].totals.total_ns < 50_000_000


def test_the_same_migration_twice_gives_the_same_report() -> None:
    def once() -> object:
        trip = Trip(filled(FakeGuest(2500, busy(100, 700))), policy=PolicyName.XEN_2009)
        return trip.run()

    assert once() == once()


def test_zstd_shrinks_what_crosses_and_only_that() -> None:
    guest = FakeGuest(512)
    guest.memory.frames[:256] = 3
    guest.memory.frames[256:] = np.random.default_rng(1).integers(0, 256, (256, 4096), np.uint8)
    plain, small = Trip(guest), Trip(guest, zstd_level=1)
    assert plain.run().totals.wire_bytes == 512 * 4096 + 3 * 100
    guest.stop_tracking()  # it moved, and would have ended
    report = small.run()
    assert report.rounds[0].raw_bytes == 512 * 4096
    first, second = small.destination.batches[:2]
    assert len(first.payload) < 1000
    assert len(second.payload) == 256 * 4096  # random content does not shrink: sent plain
    small.assert_arrived()
