"""Whatever fails: the guest runs on exactly one host, or stands still until it is known where.

Between two real hosts sits a relay that cuts, holds or changes what passes.
"""

from __future__ import annotations

import socket

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from pageferry.v1.destination_pb2 import (
    INCOMING_STATE_ABORTED,
    CommitRequest,
    IncomingRequest,
    PrepareReply,
    PrepareRequest,
)
from tests.journey.hosts import (
    CALL_S,
    Destination,
    Pair,
    Source,
    asking,
    assert_goes_on,
    assert_same,
    fails_with,
    new_name,
    request,
    spec,
)
from tests.journey.relay import Cut, Hold, Relay, cut
from tests.journey.tamper import TAMPERED, Damage


def assert_forgotten(destination: Destination, migration: str) -> None:
    """It was dropped there, and its guest was never taken over."""
    asked = IncomingRequest(migration_id=migration)
    status = destination.stub.GetIncoming(asked, timeout=CALL_S)
    assert status.state == INCOMING_STATE_ABORTED
    assert status.message
    destination.assert_never_had(migration.rsplit("-", 3)[0])


def assert_failed(status: pb.MigrationStatus, error_status: str, says: str = "") -> None:
    """With this status, in one line."""
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert status.error_status == error_status, status.error
    assert says in status.error
    assert "\n" not in status.error


@pytest.mark.parametrize("wrong", TAMPERED)
def test_a_batch_that_was_changed_on_the_way(pair: Pair, relay: Relay, wrong: str) -> None:
    tamper, error_status = TAMPERED[wrong]
    relay.on_batch = lambda batch: tamper(batch) if batch.sequence == 0 else None
    guest = spec(new_name())
    migration = pair.source.migrate(pair.source.boot(guest), relay.address)
    assert_failed(pair.source.follow(migration), error_status)
    assert_goes_on(pair.source, guest)
    assert_forgotten(pair.destination, migration)


def test_a_page_that_was_damaged_well_is_found_and_sent_again(pair: Pair, relay: Relay) -> None:
    """With a checksum that fits: only the proof can see it. It costs time, not the migration."""
    relay.on_batch = changed = Damage(1)
    guest = spec(new_name(), "idle")
    status = pair.source.follow(pair.source.migrate(pair.source.boot(guest), relay.address))
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert status.verified
    assert len(changed.gfns) == 1
    assert status.totals.repaired_frames == 1
    assert [stats.repair for stats in status.rounds[-2:]] == [False, True]
    arrived = pair.destination.guest(guest.guest_id)
    assert arrived.memory_digest == status.memory_digest
    assert_same(arrived, pair.source.twin_at(guest, arrived.accesses))
    # Once so that the destination makes its tags, and then level by level, and the root again.
    assert relay.seen.count("CompareDigests") == 1 + 3 + 1


def test_memory_that_differs_again_is_named(pair: Pair, relay: Relay) -> None:
    relay.on_batch = changed = Damage(2)
    guest = spec(new_name(), "idle")
    migration = pair.source.migrate(pair.source.boot(guest), relay.address)
    status = pair.source.follow(migration)
    assert len(changed.gfns) == 2
    assert_failed(
        status, "DATA_LOSS", f"still differ after a repair, first at gfn {changed.gfns[0]:#x};"
    )
    assert not status.verified
    assert_goes_on(pair.source, guest)
    assert_forgotten(pair.destination, migration)


def test_the_key_is_told_once_and_never_the_same(pair: Pair, relay: Relay) -> None:
    """On the real clock: drawn at random, so two migrations of one guest have two."""
    keys: list[bytes] = []

    def note(message: bytes) -> bytes:
        keys.append(PrepareRequest.FromString(message).proof_key)
        return message

    relay.before["Prepare"] = note
    for _ in range(2):
        name = pair.source.boot(spec(new_name(), "idle"))
        migration = pair.source.migrate(name, relay.address, clock=common_pb2.CLOCK_REAL)
        assert pair.source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
    assert [len(key) for key in keys] == [32, 32]
    assert keys[0] != keys[1]


def test_a_guest_state_that_was_changed_on_the_way(pair: Pair, relay: Relay) -> None:
    def change(message: bytes) -> bytes:
        commit = CommitRequest.FromString(message)
        commit.guest_state = commit.guest_state.replace(b"1", b"2", 1)
        return commit.SerializeToString()

    relay.before["Commit"] = change
    guest = spec(new_name())
    migration = pair.source.migrate(pair.source.boot(guest), relay.address)
    assert_failed(pair.source.follow(migration), "DATA_LOSS", "state does not match its tag")
    assert_goes_on(pair.source, guest)
    assert_forgotten(pair.destination, migration)


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize(("major", "minor"), [(2, 0), (1, 1)])
def test_versions_of_the_contract_that_differ(
    pair: Pair, relay: Relay, side: str, major: int, minor: int
) -> None:
    """Another major one, or one that knows no key."""

    def newer_source(message: bytes) -> bytes:
        prepare = PrepareRequest.FromString(message)
        prepare.version.major, prepare.version.minor = major, minor
        return prepare.SerializeToString()

    def newer_destination(message: bytes) -> bytes:
        reply = PrepareReply.FromString(message)
        reply.version.major, reply.version.minor = major, minor
        return reply.SerializeToString()

    if side == "source":
        relay.before["Prepare"] = newer_source
    else:
        relay.after["Prepare"] = newer_destination
    guest = spec(new_name())
    migration = pair.source.migrate(pair.source.boot(guest), relay.address)
    version = f"has contract {major}.{minor}"
    assert_failed(pair.source.follow(migration), "FAILED_PRECONDITION", version)
    assert_goes_on(pair.source, guest)
    if side == "destination":
        assert_forgotten(pair.destination, migration)


@pytest.mark.parametrize(
    ("moment", "state"),
    [
        ("Prepare", pb.MIGRATION_STATE_SETUP),
        ("round 1", pb.MIGRATION_STATE_PRE_COPY),
        ("round 2", pb.MIGRATION_STATE_PRE_COPY),
        ("CompareDigests", pb.MIGRATION_STATE_VERIFYING),
    ],
)
def test_cancelled_in_the_middle(
    pair: Pair, relay: Relay, moment: str, state: pb.MigrationState.ValueType
) -> None:
    source, guest = pair.source, spec(new_name())
    source.boot(guest)
    with Hold() as hold:
        if moment.startswith("round"):
            relay.on_batch = hold.in_round(int(moment[-1]))
        else:
            relay.before[moment] = hold
        migration = source.migrate(guest.guest_id, relay.address)
        assert hold.reached.wait(CALL_S)
        assert source.status(migration).state == state
        source.cancel(migration)
        assert source.follow(migration).state == pb.MIGRATION_STATE_CANCELLED
        assert source.cancel(migration).state == pb.MIGRATION_STATE_CANCELLED
        assert_goes_on(source, guest)
    assert_forgotten(pair.destination, migration)


def test_it_is_too_late_to_cancel_once_the_commit_was_sent(pair: Pair, relay: Relay) -> None:
    name = pair.source.boot(spec(new_name()))
    with Hold() as hold:
        relay.before["Commit"] = hold
        migration = pair.source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
            pair.source.cancel(migration)
        assert "before its commit" in refused.details
    assert pair.source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        pair.source.cancel(migration)


def test_a_commit_whose_answer_is_lost(pair: Pair, relay: Relay) -> None:
    """The destination has the guest, and says so when it is asked."""
    relay.after["Commit"] = cut
    name = pair.source.boot(spec(new_name()))
    status = pair.source.follow(pair.source.migrate(name, relay.address))
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    assert not status.error
    assert pair.source.guest(name).state == common_pb2.GUEST_STATE_MOVED
    assert pair.destination.guest(name).memory_digest == status.memory_digest
    assert relay.seen[-2:] == ["Commit", "GetIncoming"]


def test_a_commit_that_is_lost_and_found_after_the_guest_went_on(pair: Pair, relay: Relay) -> None:
    """It stays where it is; the commit that arrives after all is refused."""
    lost: list[bytes] = []

    def lose(message: bytes) -> bytes:
        lost.append(message)
        raise Cut

    relay.before["Commit"] = lose
    guest = spec(new_name())
    migration = pair.source.migrate(pair.source.boot(guest), relay.address)
    assert_failed(pair.source.follow(migration), "UNAVAILABLE", "the answer to the commit was lost")
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
        pair.destination.stub.Commit(CommitRequest.FromString(lost[0]), timeout=CALL_S)
    assert "aborted" in refused.details
    assert_goes_on(pair.source, guest)
    assert_forgotten(pair.destination, migration)


def assert_stands_still(source: Source, name: str, migration: str) -> None:
    """Nobody may touch the guest while it is in doubt who has it."""
    doubtful = source.guest(name)
    assert doubtful.state == common_pb2.GUEST_STATE_IN_DOUBT
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.stub.StartGuest(asking(name), timeout=CALL_S)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.step(name, 1)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.delete(name)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.stub.Migrate(request(name, "127.0.0.1:1"), timeout=CALL_S)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.cancel(migration)
    assert source.guest(name).accesses == doubtful.accesses


def in_doubt(source: Source, migration: str) -> pb.MigrationStatus:
    """Its first picture in doubt."""
    pictures = source.watch(migration)
    return next(one for one in pictures if one.state == pb.MIGRATION_STATE_IN_DOUBT)


@pytest.mark.parametrize("arrived", [False, True], ids=["before", "after"])
def test_a_destination_that_dies_at_the_commit(
    pair: Pair, expendable: Destination, *, arrived: bool
) -> None:
    """In doubt until an operator decides: one that is started again cannot know what it had."""
    source, guest = pair.source, spec(new_name())
    name = source.boot(guest)

    def die(message: bytes) -> bytes:
        expendable.kill()
        return cut(message)

    with Relay(expendable.address) as relay:
        (relay.after if arrived else relay.before)["Commit"] = die
        migration = source.migrate(name, relay.address)
        doubtful = in_doubt(source, migration)
        assert doubtful.error_status == "UNAVAILABLE"
        assert doubtful.verified
        assert "no answer came" in doubtful.error
        assert_stands_still(source, name, migration)
        with fails_with(grpc.StatusCode.UNAVAILABLE):
            source.resolve(migration)
        assert source.guest(name).state == common_pb2.GUEST_STATE_IN_DOUBT
        relay.aim(pair.destination.address)  # it is started again, and knows of nothing
        with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
            source.resolve(migration)
        assert "started again" in refused.details
        assert_stands_still(source, name, migration)
        decided = source.resolve(migration, pb.RESOLUTION_KEEP)
        assert_failed(decided, "UNAVAILABLE", "an operator decided")
    assert_goes_on(source, guest)
    pair.destination.assert_never_had(name)


def test_a_destination_that_dies_in_the_middle(pair: Pair, expendable: Destination) -> None:
    guest = spec(new_name())
    with Relay(expendable.address) as relay, Hold() as hold:
        relay.on_batch = hold.in_round(2)
        migration = pair.source.migrate(pair.source.boot(guest), relay.address)
        assert hold.reached.wait(CALL_S)
        expendable.kill()
        hold.let_go()
        status = pair.source.follow(migration)
    assert_failed(status, "UNAVAILABLE", f"the host at {relay.address} answered before")
    assert status.rounds[0].sent_frames == 2048
    assert_goes_on(pair.source, guest)


def test_a_destination_that_is_not_there(pair: Pair) -> None:
    guest = spec(new_name())
    with socket.socket() as holder:  # nobody listens there, and nobody else is given the port
        holder.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{holder.getsockname()[1]}"
        migration = pair.source.migrate(pair.source.boot(guest), nowhere)
        status = pair.source.follow(migration)
    assert_failed(status, "UNAVAILABLE", f"no host answers at {nowhere}")
    assert_goes_on(pair.source, guest)


def test_a_destination_that_is_no_destination(pair: Pair) -> None:
    guest = spec(new_name())
    migration = pair.source.migrate(pair.source.boot(guest), pair.source.address)
    status = pair.source.follow(migration)
    assert_failed(status, "FAILED_PRECONDITION", f"{pair.source.address} does not serve this call")
    assert_goes_on(pair.source, guest)
