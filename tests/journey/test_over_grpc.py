"""The whole journey over real gRPC, between hosts in processes of their own."""

from __future__ import annotations

from threading import Barrier
from typing import Any

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from pageferry.v1.destination_pb2 import PageBatch
from tests.journey.hosts import (
    BUSY,
    CALL_S,
    CHURN,
    Pair,
    asking,
    assert_same,
    fails_with,
    new_name,
    request,
    spec,
)
from tests.journey.relay import Hold, Relay

TRACKERS: dict[str, dict[str, Any]] = {
    "shadow": {"paging": common_pb2.PAGING_SHADOW},
    "write-protect": {
        "paging": common_pb2.PAGING_SHADOW,
        "clean": common_pb2.CLEAN_POLICY_WRITE_PROTECT,
        "out_of_sync": True,
    },
    "grouped": {"paging": common_pb2.PAGING_SHADOW, "group": common_pb2.GroupPolicy(frames=64)},
    "hap": {
        "paging": common_pb2.PAGING_HAP,
        "group": common_pb2.GroupPolicy(frames=8, d_bit_filter=True),
    },
    "pml": {"paging": common_pb2.PAGING_HAP, "pml": True},
}
POLICIES = {"xen": pb.POLICY_XEN, "xen-2009": pb.POLICY_XEN_2009, "qemu": pb.POLICY_QEMU}


def assert_arrived(pair: Pair, guest: common_pb2.GuestSpec, status: pb.MigrationStatus) -> None:
    """It is over there and nowhere else, and equals a twin, then and later."""
    name = guest.guest_id
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert status.verified
    assert pair.source.guest(name).state == common_pb2.GUEST_STATE_MOVED
    arrived = pair.destination.guest(name)
    assert arrived.memory_digest == status.memory_digest
    twin = pair.source.twin_at(guest, arrived.accesses)
    assert_same(arrived, twin)
    twin = pair.source.step(twin.guest_id, 20_000)
    assert_same(pair.destination.step(name, 20_000), twin)
    for gone in (name, twin.guest_id):
        pair.source.delete(gone)
    pair.destination.delete(name)


@pytest.mark.parametrize("workload", [BUSY, CHURN], ids=["hotcold", "churn"])
@pytest.mark.parametrize(
    ("tracker", "policy"),
    [("shadow", "xen"), ("write-protect", "xen-2009"), ("grouped", "qemu"), ("grouped", "xen-2009"),
     ("hap", "xen"), ("pml", "qemu")],
)  # fmt: skip
def test_a_guest_arrives_and_equals_its_twin(
    pair: Pair, tracker: str, policy: str, workload: str
) -> None:
    guest = spec(new_name(), workload, tracker=common_pb2.TrackerConfig(**TRACKERS[tracker]))
    pair.source.boot(guest)
    migration = pair.source.migrate(
        guest.guest_id,
        pair.destination.address,
        policy=POLICIES[policy],
        downtime_limit_ns=1_000_000,
    )
    status = pair.source.follow(migration)
    assert len(status.rounds) >= 3
    assert status.rounds[-1].stop_and_copy
    assert status.rounds[-1].sent_frames > 0
    assert_arrived(pair, guest, status)


def test_two_migrations_at_once(pair: Pair, relay: Relay) -> None:
    both = Barrier(2)

    def meet(batch: PageBatch) -> None:
        if batch.sequence == 0:
            both.wait(CALL_S)  # neither ends before the other began

    relay.on_batch = meet
    guests = [spec(new_name(), workload) for workload in (BUSY, CHURN)]
    for guest in guests:
        pair.source.boot(guest)
    begun = [pair.source.migrate(guest.guest_id, relay.address) for guest in guests]
    for guest, migration in zip(guests, begun, strict=True):
        assert_arrived(pair, guest, pair.source.follow(migration))


def test_what_moved_away_does_nothing_more_here(pair: Pair) -> None:
    source, guest = pair.source, spec(new_name())
    name = source.boot(guest)
    source.follow(source.migrate(name, pair.destination.address))
    left = source.guest(name)
    assert left.state == common_pb2.GUEST_STATE_MOVED
    assert pair.destination.address in left.message
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.stub.StartGuest(asking(name), timeout=CALL_S)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.step(name, 1)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        source.migrate(name, pair.destination.address)
    with fails_with(grpc.StatusCode.ALREADY_EXISTS):
        source.boot(guest)
    assert source.guest(name).accesses == left.accesses


def test_a_name_can_be_used_again_once_both_hosts_forgot_it(pair: Pair) -> None:
    source, guest = pair.source, spec(new_name())
    name = source.boot(guest)
    source.follow(source.migrate(name, pair.destination.address))
    source.delete(name)
    source.boot(guest)
    refused = source.follow(source.migrate(name, pair.destination.address))
    assert refused.state == pb.MIGRATION_STATE_FAILED
    assert refused.error_status == "ALREADY_EXISTS"
    assert source.guest(name).state == common_pb2.GUEST_STATE_RUNNING
    pair.destination.delete(name)
    again = source.follow(source.migrate(name, pair.destination.address))
    assert again.state == pb.MIGRATION_STATE_COMPLETED, again.error


def test_who_watches_late_sees_how_it_stands_and_how_it_ends(pair: Pair, relay: Relay) -> None:
    source = pair.source
    name = source.boot(spec(new_name()))
    with Hold() as hold:
        relay.on_batch = hold.in_round(2)
        migration = source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        late = source.watch(migration)
        first = next(late)
        assert first.state == pb.MIGRATION_STATE_PRE_COPY
        assert first.rounds[0].sent_frames == 2048
        assert first.totals.sent_frames >= 2048
        hold.let_go()
        (*_, last) = late
    assert last.state == pb.MIGRATION_STATE_COMPLETED
    assert [status.state for status in source.watch(migration)] == [last.state]
    states = [status.state for status in (first, last)]
    assert states == sorted(states)


def test_a_guest_that_is_being_migrated_is_left_alone(pair: Pair, relay: Relay) -> None:
    source = pair.source
    name = source.boot(spec(new_name()))
    with Hold() as hold:
        relay.before["CompareDigests"] = hold
        migration = source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        for call in (source.stub.StartGuest, source.stub.PauseGuest, source.stub.DeleteGuest):
            with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
                call(asking(name), timeout=CALL_S)
            assert migration in refused.details
        with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
            source.stub.Migrate(request(name, relay.address), timeout=CALL_S)
    assert source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
