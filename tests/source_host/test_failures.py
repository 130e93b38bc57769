"""Whatever goes wrong before the commit, the guest goes on here as if nothing had happened."""

from __future__ import annotations

from itertools import pairwise
from threading import Thread

import pytest

from paging_core.errors import (
    BatchCorrupt,
    DowntimeExceeded,
    GuestOutOfMemory,
    HostUnreachable,
    IllegalTransition,
    InvariantViolation,
    LimitExceeded,
    MigrationCancelled,
    OutcomeUnknown,
    PageferryError,
    VerificationFailed,
    WrongHost,
)
from source_host.migration import Resolution
from source_host.precopy.report import Report
from source_host.states import MigrationState
from tests.guests.fake import ACCESS_NS, FakeGuest, busy
from tests.source_host.fake_destination import HEADER_BYTES
from tests.source_host.harness import DIGEST_NS, Trip, filled
from wire.batch import Batch
from wire.hosting.guests.states import GuestState

GONE = HostUnreachable("no host answers")


def trip_of(warmup_ns: int = 0) -> Trip:
    return Trip(filled(FakeGuest(2000, busy(0, 900))), warmup_ns=warmup_ns)


def nothing() -> None:
    """A call that goes well."""


def assert_failed(
    trip: Trip, report: Report, error: type[PageferryError], *, verified: bool = False
) -> None:
    assert report.state is MigrationState.FAILED
    assert report.settled
    assert isinstance(report.error, error)
    assert report.verified is verified
    assert report.downtime is None
    assert trip.destination.closed
    trip.assert_guest_goes_on_here()


def test_a_destination_that_is_not_there() -> None:
    trip = trip_of()
    trip.destination.faults["prepare"] = [GONE]
    trip.destination.faults["abort"] = [GONE]
    report = trip.run()
    assert_failed(trip, report, HostUnreachable)
    assert report.rounds == ()


def test_a_destination_that_refuses_is_not_told_to_forget() -> None:
    trip = trip_of()
    trip.destination.faults["prepare"] = [LimitExceeded("too large")]
    assert_failed(trip, trip.run(), LimitExceeded)
    assert trip.destination.calls == ["prepare"]


@pytest.mark.parametrize("batches", [0, 3, 8, 20])
def test_a_destination_that_dies_mid_round(batches: int) -> None:
    trip = trip_of()

    def die(batch: Batch) -> None:
        if batch.sequence == batches:
            raise GONE

    trip.destination.on_send = die
    trip.destination.faults["abort"] = [GONE]
    assert_failed(trip, trip.run(), HostUnreachable)


def test_a_destination_that_dies_while_the_guest_is_paused() -> None:
    trip = trip_of()
    trip.destination.faults["drain"] = [nothing] * 5 + [GONE]
    report = trip.run()
    assert_failed(trip, report, HostUnreachable)
    assert trip.destination.aborted
    assert trip.notes.states[-2:] == ["stop_and_copy", "failed"]


def test_a_guest_that_goes_on_notices_how_long_it_stood_still() -> None:
    trip = trip_of()
    trip.destination.faults["drain"] = [nothing] * 5 + [GONE]
    trip.run()
    last = [batch for batch in trip.destination.batches if batch.round == 6]
    assert sum(len(batch.runs.gfns()) for batch in last) == 900
    n_bytes = sum(HEADER_BYTES + len(batch.payload) for batch in last)
    # All 900 are digested. Those of the fourth message that were not written since are no content.
    assert len(last) == 4
    assert (900 - 132) * 4096 < n_bytes < 900 * 4096
    assert trip.guest.stalled_ns == pytest.approx(900 * DIGEST_NS + n_bytes * 8, abs=ACCESS_NS)


def test_an_error_of_the_destination_arrives_as_the_same_error() -> None:
    trip = trip_of()
    trip.destination.faults["drain"] = [BatchCorrupt("batch 3 does not match")]
    report = trip.run()
    assert_failed(trip, report, BatchCorrupt)
    assert trip.destination.aborted


def test_a_guest_whose_kernel_gives_up_crashes_and_the_migration_fails() -> None:
    trip = trip_of()

    def give_up(position: int) -> None:
        if position == 30_000:
            raise GuestOutOfMemory("the guest's kernel found no free frame")

    trip.guest.on_access = give_up
    report = trip.run()
    assert report.state is MigrationState.FAILED
    assert isinstance(report.error, GuestOutOfMemory)
    assert trip.life.state is GuestState.CRASHED
    assert trip.destination.aborted


def test_a_bug_is_reported_as_one_and_the_guest_goes_on() -> None:
    trip = trip_of()

    def stumble() -> None:
        raise ZeroDivisionError("oops")

    trip.destination.faults["drain"] = [stumble]
    report = trip.run()
    assert_failed(trip, report, InvariantViolation)
    assert "ZeroDivisionError" in str(report.error)


# -- cancelling ------------------------------------------------------------------------


def cancel_when(trip: Trip, name: str, after: int) -> None:
    """Cancel during the call number `after` of a method."""
    trip.destination.faults[name] = [*[nothing] * after, trip.migration.cancel]


@pytest.mark.parametrize(
    ("method", "after", "state"),
    [
        ("prepare", 0, "setup"),
        ("send", 2, "pre_copy"),
        ("send", 14, "pre_copy"),
        ("drain", 0, "pre_copy"),
        ("drain", 5, "stop_and_copy"),
        ("differing", 0, "verifying"),
    ],
)
def test_cancel_in_each_state_before_the_commit(method: str, after: int, state: str) -> None:
    trip = trip_of()
    cancel_when(trip, method, after)
    report = trip.run()
    assert report.state is MigrationState.CANCELLED
    assert isinstance(report.error, MigrationCancelled)
    assert trip.destination.aborted
    assert trip.notes.states[-2:] == ([state, "cancelled"] if state != "setup" else ["cancelled"])
    trip.assert_guest_goes_on_here()


def test_cancel_before_it_began() -> None:
    trip = trip_of()
    trip.migration.cancel()
    assert trip.run().state is MigrationState.CANCELLED
    trip.assert_guest_goes_on_here()


def test_cancel_during_a_warm_up() -> None:
    trip = trip_of(warmup_ns=10**12)

    def cancel(position: int) -> None:
        if position == 1000:
            trip.migration.cancel()

    trip.guest.on_access = cancel
    report = trip.run()
    assert report.state is MigrationState.CANCELLED
    assert trip.guest.position < 200_000
    trip.assert_guest_goes_on_here()


def test_cancel_twice_is_cancelled_once() -> None:
    trip = trip_of()
    cancel_when(trip, "send", 2)
    trip.run()
    trip.migration.cancel()
    assert trip.migration.report().state is MigrationState.CANCELLED


def test_a_paused_guest_stays_paused_after_a_failure() -> None:
    trip = Trip(filled(FakeGuest(600)), running=False)
    trip.destination.faults["drain"] = [GONE]
    report = trip.run()
    assert report.state is MigrationState.FAILED
    trip.assert_guest_goes_on_here(GuestState.PAUSED)


@pytest.mark.parametrize("moment", ["commit", "commit answer"])
def test_cancel_comes_too_late_once_the_commit_was_sent(moment: str) -> None:
    trip = trip_of()
    refusals: list[str] = []

    def cancel() -> None:
        with pytest.raises(IllegalTransition, match="only before its commit") as refusal:
            trip.migration.cancel()
        refusals.append(str(refusal.value))

    trip.destination.faults[moment] = [cancel]
    assert trip.run().state is MigrationState.COMPLETED
    assert len(refusals) == 1
    with pytest.raises(IllegalTransition, match="is completed"):
        trip.migration.cancel()


# -- the commit ------------------------------------------------------------------------

LOST = OutcomeUnknown("no answer")


def test_a_commit_that_is_refused_leaves_the_guest_here() -> None:
    trip = trip_of()
    trip.destination.faults["commit"] = [VerificationFailed("another digest")]
    report = trip.run()
    assert report.state is MigrationState.FAILED
    assert trip.destination.aborted
    trip.assert_guest_goes_on_here()


def test_a_lost_answer_of_a_commit_that_arrived() -> None:
    trip = trip_of()
    trip.destination.faults["commit answer"] = [LOST]
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert report.error is None
    assert trip.life.state is GuestState.MOVED
    assert trip.notes.states[-2:] == ["in_doubt", "completed"]
    assert not trip.destination.aborted
    assert report.downtime is not None


def test_a_lost_commit_that_never_arrived_is_aborted_before_the_guest_goes_on() -> None:
    trip = trip_of()
    trip.destination.faults["commit"] = [LOST]
    resumed_before_abort: list[bool] = []
    trip.destination.faults["abort"] = [
        lambda: resumed_before_abort.append(trip.life.state is not GuestState.IN_DOUBT)
    ]
    report = trip.run()
    assert report.state is MigrationState.FAILED
    assert isinstance(report.error, OutcomeUnknown)
    assert resumed_before_abort == [False]
    assert trip.destination.aborted
    assert trip.destination.calls.count("abort") == 1
    trip.assert_guest_goes_on_here()


def test_a_commit_that_arrives_between_the_question_and_the_abort() -> None:
    trip = trip_of()
    destination = trip.destination
    destination.faults["commit"] = [LOST]

    def arrive_late() -> None:
        raise IllegalTransition("this migration was committed")

    def answer() -> None:
        destination.faults["abort"] = [arrive_late]
        destination.faults["is_committed"] = [take_over]

    def take_over() -> None:
        from source_host.precopy.transport import Handover  # noqa: PLC0415

        destination.handover = Handover(b"", b"", b"", start=False)

    destination.faults["is_committed"] = [answer]
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert trip.life.state is GuestState.MOVED


def test_a_bug_after_the_commit_was_sent_is_a_doubt_and_not_a_failure() -> None:
    trip = trip_of()

    def stumble() -> None:
        raise ZeroDivisionError("oops")

    trip.destination.faults["commit answer"] = [stumble]
    report = trip.run()
    assert report.state is MigrationState.COMPLETED
    assert trip.life.state is GuestState.MOVED


def in_doubt() -> Trip:
    """The destination took the guest, and cannot be asked."""
    trip = trip_of()
    trip.destination.faults["commit answer"] = [LOST]
    trip.destination.faults["is_committed"] = [GONE] * 3
    report = trip.run()
    assert report.state is MigrationState.IN_DOUBT
    assert report.settled
    assert isinstance(report.error, OutcomeUnknown)
    return trip


def test_a_destination_that_cannot_be_asked_leaves_the_guest_in_doubt() -> None:
    trip = in_doubt()
    assert trip.life.state is GuestState.IN_DOUBT
    assert not trip.destination.closed
    with pytest.raises(IllegalTransition):
        trip.migration.cancel()


def test_resolving_asks_again_and_lets_go_when_the_destination_has_it() -> None:
    trip = in_doubt()
    trip.migration.resolve()
    assert trip.migration.report().state is MigrationState.COMPLETED
    assert trip.life.state is GuestState.MOVED
    assert trip.destination.closed
    with pytest.raises(IllegalTransition, match="not in doubt"):
        trip.migration.resolve()


def test_resolving_in_vain_leaves_everything_as_it_is() -> None:
    trip = in_doubt()
    trip.destination.faults["is_committed"] = [GONE]
    with pytest.raises(HostUnreachable):
        trip.migration.resolve()
    assert trip.migration.report().state is MigrationState.IN_DOUBT
    assert trip.life.state is GuestState.IN_DOUBT


def test_resolving_brings_the_guest_back_when_the_destination_never_took_it() -> None:
    trip = trip_of()
    trip.destination.faults["commit"] = [LOST]
    trip.destination.faults["is_committed"] = [GONE] * 3
    trip.run()
    assert trip.life.state is GuestState.IN_DOUBT
    trip.migration.resolve()
    assert trip.migration.report().state is MigrationState.FAILED
    trip.assert_guest_goes_on_here()


def test_an_abort_that_is_not_confirmed_keeps_the_guest_still() -> None:
    trip = trip_of()
    trip.destination.faults["commit"] = [LOST]
    trip.destination.faults["abort"] = [GONE] * 3
    trip.run()
    assert trip.migration.report().state is MigrationState.IN_DOUBT
    assert trip.life.state is GuestState.IN_DOUBT


def test_resolve_is_refused_when_nothing_is_in_doubt() -> None:
    with pytest.raises(IllegalTransition, match="nothing to resolve"):
        trip_of().migration.resolve()


def test_a_shutdown_stops_the_asking() -> None:
    trip = trip_of()
    trip.destination.faults["commit answer"] = [LOST]
    trip.destination.faults["is_committed"] = [GONE] * 100
    trip.migration._ask_again_after_s = [0.0] * 5 + [3600.0]
    thread = Thread(target=trip.run)
    thread.start()
    trip.migration.stop_asking()
    thread.join(30)
    assert not thread.is_alive()
    assert trip.life.state is GuestState.IN_DOUBT


def test_watchers_can_read_while_it_goes_on() -> None:
    trip = trip_of()
    seen: list[Report] = []
    trip.destination.on_send = lambda _batch: seen.append(trip.migration.report())
    trip.run()
    assert [r.current.sent_frames for r in seen[:3] if r.current] == [0, 256, 512]
    assert seen[0].state is MigrationState.PRE_COPY
    assert all(a.totals.sent_frames <= b.totals.sent_frames for a, b in pairwise(seen))


def test_a_decision_is_made_where_the_destination_cannot_be_asked() -> None:
    kept, released = in_doubt(), in_doubt()
    for trip, decision in ((kept, Resolution.KEEP), (released, Resolution.RELEASE)):
        trip.destination.faults["is_committed"] = [GONE]
        trip.destination.faults["abort"] = [GONE]
        trip.migration.resolve(decision)
        assert trip.destination.closed
    assert kept.migration.report().state is MigrationState.FAILED
    assert "an operator decided" in str(kept.migration.report().error)
    assert kept.life.state is GuestState.RUNNING
    assert not kept.guest.tracking
    assert released.migration.report().state is MigrationState.COMPLETED
    assert released.life.state is GuestState.MOVED


def test_a_guest_that_the_destination_has_is_not_kept() -> None:
    trip = in_doubt()
    with pytest.raises(IllegalTransition, match="run twice"):
        trip.migration.resolve(Resolution.KEEP)
    assert trip.migration.state is MigrationState.IN_DOUBT
    trip.migration.resolve()
    assert trip.life.state is GuestState.MOVED


def test_a_guest_that_was_never_taken_is_not_released() -> None:
    trip = trip_of()
    trip.destination.faults["commit"] = [LOST]
    trip.destination.faults["is_committed"] = [GONE] * 3
    trip.run()
    with pytest.raises(IllegalTransition, match="lost"):
        trip.migration.resolve(Resolution.RELEASE)
    assert trip.life.state is GuestState.IN_DOUBT
    trip.migration.resolve(Resolution.KEEP)
    trip.assert_guest_goes_on_here()


def test_an_answer_of_another_host_decides_nothing() -> None:
    trip = in_doubt()
    other = WrongHost("this is host b, not a")
    trip.destination.faults["is_committed"] = [other]
    with pytest.raises(WrongHost):
        trip.migration.resolve()
    assert trip.life.state is GuestState.IN_DOUBT


def test_a_bug_while_it_is_asked_leaves_the_doubt_open() -> None:
    trip = trip_of()

    def stumble() -> None:
        raise ZeroDivisionError("oops")

    trip.destination.faults["commit answer"] = [LOST]
    trip.destination.faults["is_committed"] = [stumble] * 3
    report = trip.run()
    assert report.settled
    assert report.state is MigrationState.IN_DOUBT
    assert "--resolve keep" in str(report.error)
    trip.migration.resolve()
    assert trip.life.state is GuestState.MOVED


def test_a_modelled_downtime_may_be_as_long_as_it_is_and_not_a_nanosecond_shorter() -> None:
    downtime = trip_of().run().downtime
    assert downtime is not None
    for most_ns, state in (
        (downtime.total_ns, MigrationState.COMPLETED),
        (downtime.total_ns - 1, MigrationState.FAILED),
        (1, MigrationState.FAILED),
    ):
        trip = Trip(filled(FakeGuest(2000, busy(0, 900))), max_downtime_ns=most_ns)
        report = trip.run()
        assert report.state is state, most_ns
        if state is MigrationState.FAILED:
            assert_failed(trip, report, DowntimeExceeded, verified=report.verified)
            assert trip.destination.aborted


def test_silence_while_the_guest_stands_still_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the virtual clock no modelled time passes while nobody answers."""
    monkeypatch.setattr("source_host.precopy.standstill.SILENCE_NS", 200_000_000)
    trip = Trip(filled(FakeGuest(2000, busy(0, 900))), max_downtime_ns=150_000_000)

    def say_nothing() -> None:
        assert trip.destination.interrupted.wait(60)
        raise MigrationCancelled("interrupted")

    trip.destination.faults["differing"] = [say_nothing]
    report = trip.run()
    assert_failed(trip, report, DowntimeExceeded)
    assert "nothing came of the destination" in str(report.error)


def test_a_commit_is_given_what_is_left_and_never_nothing() -> None:
    trip = trip_of()
    trip.run()
    handover = trip.destination.handover
    assert handover is not None
    assert 1.0 <= handover.answer_s <= 60.0
