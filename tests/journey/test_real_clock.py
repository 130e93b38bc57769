"""The real clock: the guest runs beside the transfer, and what is measured is measured.

Nothing here asserts how long something took.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import (
    BUSY,
    CALL_S,
    CHURN,
    MIB,
    Pair,
    asking,
    assert_goes_on,
    assert_same,
    new_name,
    spec,
    until,
)
from tests.journey.relay import Hold, Relay
from tests.pageferry.hosts import interrupt, read_until, running

REAL: dict[str, Any] = {
    "clock": common_pb2.CLOCK_REAL,
    "link_bits_per_s": 0,
    "latency_ns": 0,
    "max_rounds": 0,
}
"""What a request says of the real clock; the policy's own number of rounds."""
PARTS = ("suspend_ns", "last_round_ns", "state_ns", "verify_ns", "commit_ns")
GROUPED = common_pb2.GroupPolicy(frames=16)
CASES: dict[str, tuple[dict[str, Any], str, pb.Policy.ValueType]] = {
    "shadow": ({"group": GROUPED}, "uniform:wss=24MiB,write_rate=4M", pb.POLICY_XEN_2009),
    "write-protect": (
        {"clean": common_pb2.CLEAN_POLICY_WRITE_PROTECT, "out_of_sync": True},
        CHURN,
        pb.POLICY_XEN,
    ),
    "hap": (
        {"paging": common_pb2.PAGING_HAP, "group": GROUPED},
        "hotcold:wss=24MiB,write_rate=4M",
        pb.POLICY_XEN_2009,
    ),
    "pml": (
        {"paging": common_pb2.PAGING_HAP, "pml": True},
        "zipf:wss=24MiB,write_rate=4M,huge=1",
        pb.POLICY_QEMU,
    ),
}


def pause_there(pair: Pair, name: str) -> common_pb2.GuestStatus:
    """Stop a guest that was taken over; it as it stands, digested."""
    pair.destination.stub.PauseGuest(asking(name), timeout=CALL_S)
    return pair.destination.guest(name)


@pytest.mark.parametrize("case", CASES)
def test_a_guest_that_wrote_all_the_time_equals_its_twin(pair: Pair, case: str) -> None:
    tracker, workload, policy = CASES[case]
    guest = spec(new_name(), workload, tracker=common_pb2.TrackerConfig(**tracker))
    guest.memory_bytes = 32 * MIB
    name = pair.source.boot(guest)
    # Sent again and again whatever the policy thinks of the bandwidth.
    options = REAL | {"policy": policy, "downtime_limit_ns": 1, "warmup_ns": 20_000_000}
    status = pair.source.follow(pair.source.migrate(name, pair.destination.address, **options))
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert len(status.rounds) >= 3
    assert sum(stats.dirty_frames for stats in status.rounds) > 0
    there = pair.destination.stub.GetGuest(asking(name), timeout=CALL_S)
    assert there.state == common_pb2.GUEST_STATE_RUNNING
    until(lambda: pair.destination.stub.GetGuest(asking(name)).accesses > there.accesses)
    arrived = pause_there(pair, name)
    twin = pair.source.twin_at(guest, arrived.accesses)
    assert_same(arrived, twin)
    pair.destination.delete(name)
    for gone in (name, twin.guest_id):
        pair.source.delete(gone)


def test_the_guest_runs_while_pages_cross_and_stands_still_while_they_are_proved(
    pair: Pair, relay: Relay
) -> None:
    source, name = pair.source, pair.source.boot(spec(new_name()))
    with Hold() as crossing, Hold() as proving:
        relay.on_batch = crossing.in_round(1)
        relay.before["CompareDigests"] = proving
        migration = source.migrate(name, relay.address, **REAL)
        assert crossing.reached.wait(CALL_S)
        before = source.guest(name).accesses
        until(lambda: source.guest(name).accesses > before + 1000)
        assert source.status(migration).state == pb.MIGRATION_STATE_PRE_COPY
        crossing.let_go()
        assert proving.reached.wait(CALL_S)
        paused = source.guest(name)
        assert paused.state == common_pb2.GUEST_STATE_PAUSED
        assert source.guest(name).accesses == paused.accesses
    status = source.follow(migration)
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert source.guest(name).accesses == paused.accesses
    assert pause_there(pair, name).accesses >= paused.accesses


def test_downtime_is_the_sum_of_its_parts(pair: Pair) -> None:
    name = pair.source.boot(spec(new_name()))
    migration = pair.source.migrate(name, pair.destination.address, **REAL)
    status = pair.source.follow(migration)
    parts = {part: getattr(status.downtime, part) for part in PARTS}
    assert all(ns > 0 for ns in parts.values()), parts
    assert status.downtime.total_ns == sum(parts.values())
    assert status.downtime.total_ns < status.totals.total_ns
    assert pause_there(pair, name).state == common_pb2.GUEST_STATE_PAUSED


@pytest.mark.parametrize("workload", [BUSY, CHURN], ids=["hotcold", "churn"])
def test_a_cancelled_guest_goes_on_from_where_it_came_to(
    pair: Pair, relay: Relay, workload: str
) -> None:
    source, guest = pair.source, spec(new_name(), workload)
    source.boot(guest)
    with Hold() as hold:
        relay.on_batch = hold.in_round(2)
        migration = source.migrate(guest.guest_id, relay.address, **REAL)
        assert hold.reached.wait(CALL_S)
        source.cancel(migration)
        assert source.follow(migration).state == pb.MIGRATION_STATE_CANCELLED
    assert source.guest(guest.guest_id).accesses > 0
    assert_goes_on(source, guest)


def test_ctrl_c_cancels(pair: Pair, relay: Relay) -> None:
    where = ["--source", pair.source.address, "--dest", relay.address]
    options = ["--clock", "real", "--memory", "8MiB", "--workload", BUSY]
    with Hold() as hold:
        relay.on_batch = hold.in_round(1)
        with running("migrate", *where, *options) as process:
            assert hold.reached.wait(CALL_S)
            interrupt(process)
            (*_, line) = read_until(process, "error:")
            assert process.wait() == 130
    assert "the guest goes on at the source" in line
    assert re.search("cancelled", line)
