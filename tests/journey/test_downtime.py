"""A guest stands still no longer than it may, also if a peer is silent, stopped or slow."""

from __future__ import annotations

import signal
import time

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import (
    CALL_S,
    Destination,
    Pair,
    assert_goes_on,
    fails_with,
    new_name,
    spec,
    until,
)
from tests.journey.relay import Hold, Relay

SECOND_NS = 10**9
NOT_FOR_EVER_S = 40
"""What a machine under load needs, and half of what a host waited before there was a limit."""
REAL = {"clock": common_pb2.CLOCK_REAL, "max_rounds": 1, "warmup_ns": 0}


def begun(pair: Pair, guest: common_pb2.GuestSpec, destination: str) -> str:
    """A migration of a guest just booted, which may stand still for two seconds."""
    pair.source.boot(guest)
    return pair.source.migrate(guest.guest_id, destination, max_downtime_ns=2 * SECOND_NS, **REAL)


def ended_soon(pair: Pair, migration: str) -> pb.MigrationStatus:
    """How a migration ends, which must not take for ever."""
    began = time.monotonic()
    status = pair.source.follow(migration)
    assert time.monotonic() - began < NOT_FOR_EVER_S
    return status


def assert_given_up(status: pb.MigrationStatus) -> None:
    assert status.state == pb.MIGRATION_STATE_FAILED, status
    assert status.error_status == "DEADLINE_EXCEEDED", status.error
    assert "--max-downtime" in status.error
    assert "\n" not in status.error


@pytest.mark.parametrize("where", ["the last round", "CompareDigests"])
def test_a_destination_that_says_nothing(pair: Pair, relay: Relay, where: str) -> None:
    guest = spec(new_name())
    with Hold() as hold:
        if where == "CompareDigests":
            relay.before[where] = hold
        else:
            relay.on_batch = hold.in_round(2)
        migration = begun(pair, guest, relay.address)
        assert hold.reached.wait(CALL_S)
        status = ended_soon(pair, migration)
    assert_given_up(status)
    assert_goes_on(pair.source, guest)
    pair.destination.assert_never_had(guest.guest_id)


def test_a_destination_that_was_stopped(pair: Pair, expendable: Destination) -> None:
    """Its machine still answers for it, and its connection looks alive."""
    guest = spec(new_name())

    def stop(message: bytes) -> bytes:
        expendable.process.process.send_signal(signal.SIGSTOP)
        return message

    try:
        with Relay(expendable.address) as relay:
            relay.before["CompareDigests"] = stop
            assert_given_up(ended_soon(pair, begun(pair, guest, relay.address)))
    finally:
        expendable.process.process.send_signal(signal.SIGCONT)
    assert_goes_on(pair.source, guest)


def test_a_commit_is_answered_in_time_or_in_doubt(pair: Pair, relay: Relay) -> None:
    """The one wait that cannot be given up: it is asked about, and here it never arrived."""
    guest = spec(new_name())
    with Hold() as hold:
        relay.before["Commit"] = hold
        migration = begun(pair, guest, relay.address)
        assert hold.reached.wait(CALL_S)
        status = ended_soon(pair, migration)
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert "the answer to the commit was lost" in status.error
    until(lambda: relay.seen.count("Abort") > 0)
    assert_goes_on(pair.source, guest)
    pair.destination.assert_never_had(guest.guest_id)


def test_a_limit_below_the_goal_is_refused_before_anything_moves(pair: Pair) -> None:
    name = pair.source.boot(spec(new_name()))
    with fails_with(grpc.StatusCode.INVALID_ARGUMENT) as refused:
        pair.source.migrate(
            name,
            pair.destination.address,
            policy=pb.POLICY_QEMU,
            downtime_limit_ns=2 * SECOND_NS,
            max_downtime_ns=SECOND_NS,
        )
    assert "--max-downtime" in refused.details
