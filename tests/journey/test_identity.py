"""Addresses lead to other hosts, names are used twice: no word of the wrong host counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import destination_pb2 as wire_pb
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import (
    CALL_S,
    Destination,
    Pair,
    Source,
    asking,
    assert_goes_on,
    fails_with,
    new_name,
    request,
    spec,
    start,
    until,
)
from tests.journey.relay import Cut, Hold, Relay, cut
from tests.journey.slow_wire import SlowWire
from wire.version import contract_message

Meddle = Callable[[bytes], bytes]


def doubtful(source: Source, migration: str) -> None:
    """It is in doubt, and stays so when the source asks again."""
    until(lambda: source.status(migration).state == pb.MIGRATION_STATE_IN_DOUBT)
    with pytest.raises(grpc.RpcError):
        source.resolve(migration)
    assert source.status(migration).state == pb.MIGRATION_STATE_IN_DOUBT


def decided(source: Source, migration: str) -> bool:
    """Whether it is completed: by this question, or just before it by one of the source's own."""
    with suppress(grpc.RpcError):
        source.resolve(migration)
    return source.status(migration).state == pb.MIGRATION_STATE_COMPLETED


def test_every_reply_says_who_answers(pair: Pair, relay: Relay) -> None:
    """Prepare draws nothing anew, and each later request names the host that answered it."""
    said: dict[str, str] = {}
    replies = {"Prepare": wire_pb.PrepareReply, "Commit": wire_pb.CommitReply}
    requests = {"CompareDigests": wire_pb.CompareDigestsRequest, "Commit": wire_pb.CommitRequest}

    def note(name: str, kind: type) -> Meddle:
        def keep(message: bytes) -> bytes:
            said[name] = kind.FromString(message).host_id  # type: ignore[attr-defined]
            return message

        return keep

    for name, kind in replies.items():
        relay.after[name] = note(f"{name} reply", kind)
    for name, kind in requests.items():
        relay.before[name] = note(name, kind)
    source = pair.source
    status = source.follow(source.migrate(source.boot(spec(new_name())), relay.address))
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    assert len(said) == 4
    assert len(set(said.values())) == 1
    assert len(said["Prepare reply"]) >= 32


def lost_to(other: Destination, relay: Relay) -> Meddle:
    """The answer to the commit is lost, and the address leads to another host from then on."""

    def lose(_message: bytes) -> bytes:
        relay.aim(other.address)
        raise Cut

    return lose


def test_another_host_is_no_witness(pair: Pair, expendable: Destination) -> None:
    """The first one runs the guest; the second one, which knows nothing, does not count."""
    source, name = pair.source, pair.source.boot(spec(new_name()))
    with Relay(expendable.address) as relay:
        relay.after["Commit"] = lost_to(pair.destination, relay)
        migration = source.migrate(name, relay.address)
        doubtful(source, migration)
        assert source.guest(name).state == common_pb2.GUEST_STATE_IN_DOUBT
        expendable.guest(name)
        pair.destination.assert_never_had(name)
        relay.aim(expendable.address)  # and once the address is right again, it is decided
        assert decided(source, migration)
    assert source.guest(name).state == common_pb2.GUEST_STATE_MOVED


def test_an_older_host_that_knows_no_identity_is_no_witness_either(
    pair: Pair, expendable: Destination
) -> None:
    """One of contract 1.1 reads no host_id, and says of any migration what it does not know."""
    source, name = pair.source, pair.source.boot(spec(new_name()))

    def nameless(kind: type) -> Meddle:
        def clear(message: bytes) -> bytes:
            asked = kind.FromString(message)  # type: ignore[attr-defined]
            asked.ClearField("host_id")
            return bytes(asked.SerializeToString())

        return clear

    with Relay(expendable.address) as relay:
        relay.after["Commit"] = lost_to(pair.destination, relay)
        relay.before["GetIncoming"] = nameless(wire_pb.IncomingRequest)
        relay.before["Abort"] = nameless(wire_pb.AbortRequest)
        migration = source.migrate(name, relay.address)
        doubtful(source, migration)
        assert source.resolve(migration, pb.RESOLUTION_RELEASE)
    assert source.guest(name).state == common_pb2.GUEST_STATE_MOVED
    source.delete(name)


def test_the_address_leads_elsewhere_before_the_commit(pair: Pair, expendable: Destination) -> None:
    """Whatever the other host says, the guest was handed over to nobody, and goes on."""
    source, guest = pair.source, spec(new_name())

    def turn(message: bytes) -> bytes:
        relay.aim(expendable.address)
        return message

    with Relay(pair.destination.address) as relay:
        relay.before["CompareDigests"] = turn
        status = source.follow(source.migrate(source.boot(guest), relay.address))
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert "this is host" in status.error
    assert_goes_on(source, guest)


def test_a_commit_that_reaches_another_host_is_in_doubt(
    pair: Pair, expendable: Destination
) -> None:
    """Something on the way may have asked the first one before it asked the second."""
    source, name = pair.source, pair.source.boot(spec(new_name()))

    def turn(message: bytes) -> bytes:
        relay.aim(expendable.address)
        return message

    with Relay(pair.destination.address) as relay:
        relay.before["Commit"] = turn
        migration = source.migrate(name, relay.address)
        doubtful(source, migration)
        source.resolve(migration, pb.RESOLUTION_KEEP)
    assert source.guest(name).state == common_pb2.GUEST_STATE_RUNNING


@pytest.mark.parametrize(
    "says",
    [
        wire_pb.INCOMING_STATE_PREPARED,
        wire_pb.INCOMING_STATE_RECEIVING,
        wire_pb.INCOMING_STATE_ABORTED,
    ],
)
def test_a_destination_that_contradicts_itself(
    pair: Pair, relay: Relay, says: wire_pb.IncomingState.ValueType
) -> None:
    """It has the guest and says so to the abort, and then that it has not."""
    source, name = pair.source, pair.source.boot(spec(new_name()))

    def lie(message: bytes) -> bytes:
        status = wire_pb.IncomingStatus.FromString(message)
        status.state = says
        return status.SerializeToString()

    relay.after["Commit"] = cut
    relay.after["GetIncoming"] = lie
    migration = source.migrate(name, relay.address)
    doubtful(source, migration)
    with fails_with(grpc.StatusCode.UNAVAILABLE) as refused:
        source.resolve(migration)
    assert "contradicts itself" in refused.details
    source.resolve(migration, pb.RESOLUTION_RELEASE)
    assert source.guest(name).state == common_pb2.GUEST_STATE_MOVED
    assert "as an operator decided" in source.guest(name).message


def test_a_decision_is_no_dead_end_when_the_destination_is_gone_for_ever(
    pair: Pair, expendable: Destination
) -> None:
    source = pair.source
    kept, released = spec(new_name()), spec(new_name())

    def die(message: bytes) -> bytes:
        expendable.kill()
        return cut(message)

    with Relay(expendable.address) as relay:
        relay.after["Commit"] = die
        migration = source.migrate(source.boot(kept), relay.address)
        until(lambda: source.status(migration).state == pb.MIGRATION_STATE_IN_DOUBT)
        with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
            source.delete(kept.guest_id)
        assert "--resolve keep" in refused.details
        status = source.resolve(migration, pb.RESOLUTION_KEEP)
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert "an operator decided" in status.error
    assert_goes_on(source, kept)
    with Destination(start("dest_host")) as other, Relay(other.address) as relay:

        def die_too(message: bytes) -> bytes:
            other.kill()
            return cut(message)

        relay.after["Commit"] = die_too
        migration = source.migrate(source.boot(released), relay.address)
        until(lambda: source.status(migration).state == pb.MIGRATION_STATE_IN_DOUBT)
        status = source.resolve(migration, pb.RESOLUTION_RELEASE)
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    assert source.guest(released.guest_id).state == common_pb2.GUEST_STATE_MOVED
    source.delete(released.guest_id)


def test_a_source_that_is_started_again_migrates_at_the_first_attempt(pair: Pair) -> None:
    """Names begin anew with each life of a source, and none is used twice."""
    name, seen = new_name(), set()
    for _ in range(2):
        with Source(start("source_host")) as source:
            source.boot(spec(name, "idle"))
            status = source.follow(source.migrate(name, pair.destination.address))
        assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
        assert status.migration_id.rsplit("-", 3)[0] == name
        seen.add(status.migration_id)
        pair.destination.delete(name)
    assert len(seen) == 2


def test_a_source_that_died_in_the_middle_migrates_at_the_first_attempt(pair: Pair) -> None:
    """What it left at the destination is dropped for the same guest, without a wait."""
    name = new_name()
    full = spec(name, "idle", fill=common_pb2.MEMORY_FILL_RANDOM)
    with (
        SlowWire(pair.destination.address, 200_000) as wire,
        Source(start("source_host")) as first,
    ):
        first.boot(full)
        migration = first.migrate(name, wire.address, clock=common_pb2.CLOCK_REAL)
        until(lambda: wire.carried_bytes > 200_000)
        first.process.process.kill()
        first.process.process.wait()
    until(lambda: broke_off(pair, name, migration))
    pair.destination.delete(name)


def broke_off(pair: Pair, name: str, migration: str) -> bool:
    """Whether the guest came again: once the destination has noticed that a connection ended."""
    with Source(start("source_host")) as source:
        source.boot(spec(name, "idle"))
        status = source.follow(source.migrate(name, pair.destination.address))
    asked = wire_pb.IncomingRequest(migration_id=migration)
    before = pair.destination.stub.GetIncoming(asked, timeout=CALL_S).state
    came = status.state == pb.MIGRATION_STATE_COMPLETED
    assert came is (before == wire_pb.INCOMING_STATE_ABORTED), status.error
    return came


def test_a_migration_whose_abort_was_lost_is_not_in_the_way(pair: Pair, relay: Relay) -> None:
    """Its stream was broken off, so the destination knows that nothing more comes of it."""
    source, name = pair.source, pair.source.boot(spec(new_name()))
    for method in ("CompareDigests", "Abort"):
        relay.before[method] = cut
    first = source.follow(source.migrate(name, relay.address))
    assert first.state == pb.MIGRATION_STATE_FAILED
    assert relay.seen.count("Abort") == 1

    def comes_again() -> bool:
        status = source.follow(source.migrate(name, pair.destination.address))
        return status.state == pb.MIGRATION_STATE_COMPLETED

    until(comes_again)
    asked = wire_pb.IncomingRequest(migration_id=first.migration_id)
    left = pair.destination.stub.GetIncoming(asked, timeout=CALL_S)
    assert left.state == wire_pb.INCOMING_STATE_ABORTED
    assert "came again" in left.message


def test_two_sources_with_a_guest_of_the_same_name(pair: Pair) -> None:
    """One of them is refused, clearly, and the other's migration goes on."""
    name = new_name()
    with Source(start("source_host")) as other:
        for source in (pair.source, other):
            source.boot(spec(name, "idle"))
        migrations = [
            (source, source.migrate(name, pair.destination.address))
            for source in (pair.source, other)
        ]
        ended = [source.follow(migration) for source, migration in migrations]
    states = sorted(status.state for status in ended)
    assert states == [pb.MIGRATION_STATE_COMPLETED, pb.MIGRATION_STATE_FAILED]
    (refused,) = (status for status in ended if status.state == pb.MIGRATION_STATE_FAILED)
    assert refused.error_status == "ALREADY_EXISTS"
    assert repr(name) in refused.error


def test_a_longest_guest_name_leaves_room_for_its_migrations(pair: Pair) -> None:
    name = "g" * 64
    pair.source.boot(spec(name, "idle"))
    asked = request(name, pair.destination.address)
    for _ in range(2):
        begun = pair.source.stub.Migrate(asked, timeout=CALL_S)
        assert len(begun.migration_id) <= 100
        if pair.source.follow(begun.migration_id).state == pb.MIGRATION_STATE_COMPLETED:
            break
    assert pair.source.stub.GetGuest(asking(name), timeout=CALL_S).state == (
        common_pb2.GUEST_STATE_MOVED
    )


def test_a_refusal_says_who_refuses_even_before_the_call_is_read() -> None:
    """A source may go on with its guest then: it was the right host that said no."""
    with Destination(start("dest_host", "--max-calls", "4")) as destination:
        offered = wire_pb.PrepareRequest(
            version=contract_message(),
            migration_id="m-1",
            guest=spec("g", "idle"),
            proof_key=bytes(32),
        )
        host_id = destination.stub.Prepare(offered, timeout=CALL_S).host_id
        commit = wire_pb.CommitRequest(migration_id="nobody-knows-it")
        assert refusal(destination, commit) == (grpc.StatusCode.NOT_FOUND, host_id)
        silence = Hold()
        silent: list[Any] = []
        full = (grpc.StatusCode.RESOURCE_EXHAUSTED, host_id)

        def no_room() -> bool:  # one more each time: the question itself may have taken its place
            silent.append(destination.stub.Transfer(waiting(silence)))
            return refusal(destination, commit) == full

        until(no_room)
        silence.let_go()
        for call in silent:
            call.cancel()


def waiting(silence: Hold) -> Iterator[wire_pb.TransferMessage]:
    """A stream on which nothing comes."""
    silence(b"")
    yield from ()


def refusal(
    destination: Destination, commit: wire_pb.CommitRequest
) -> tuple[grpc.StatusCode, str | bytes]:
    """With what status, and by whom."""
    with pytest.raises(grpc.RpcError) as refused:
        destination.stub.Commit(commit, timeout=CALL_S)
    assert isinstance(refused.value, grpc.Call)
    said = dict(refused.value.trailing_metadata() or ())
    return refused.value.code(), said.get("pageferry-host", "")
