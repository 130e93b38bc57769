"""A process as guest, migrated live: by two hosts, on the real clock, every page proved."""

from __future__ import annotations

from typing import Any

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.guests.conftest import why_not
from tests.journey.hosts import (
    CALL_S,
    MIB,
    Pair,
    asking,
    assert_same,
    new_name,
    spec,
    until,
)
from tests.journey.test_real_clock import REAL, pause_there

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
TRACKERS: dict[str, dict[str, Any]] = {
    "groups": {"group": common_pb2.GroupPolicy(frames=16)},
    "adaptive": {"group": common_pb2.GroupPolicy(adaptive=True)},
    "asynchronous": {"tracking": common_pb2.TRACKING_UFFD_ASYNC},
}
LOAD = "hotcold:wss=8MiB,write_rate=400000"


@pytest.mark.parametrize("tracker", TRACKERS.values(), ids=list(TRACKERS))
def test_it_goes_on_there_as_a_model_does_that_never_moved(
    pair: Pair, tracker: dict[str, Any]
) -> None:
    guest = spec(new_name(), LOAD, tracker=common_pb2.TrackerConfig(**tracker))
    guest.memory_bytes = 16 * MIB
    guest.kind = common_pb2.GUEST_KIND_PROCESS
    name = pair.source.boot(guest)
    options = REAL | {
        "policy": pb.POLICY_XEN_2009, "downtime_limit_ns": 1, "warmup_ns": 20_000_000
    }  # fmt: skip
    status = pair.source.follow(pair.source.migrate(name, pair.destination.address, **options))
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert len(status.rounds) >= 3
    faults = status.cost.faults
    assert faults["fixup"] >= sum(stats.fault_count for stats in status.rounds) > 0
    assert faults["total"] == faults["userfault"] + faults["kernel_fixup"]
    assert bool(faults["userfault"]) == ("tracking" not in tracker)
    there = pair.destination.stub.GetGuest(asking(name), timeout=CALL_S)
    until(lambda: pair.destination.stub.GetGuest(asking(name)).accesses > there.accesses)
    arrived = pause_there(pair, name)
    twin = spec(new_name(), LOAD, tracker=common_pb2.TrackerConfig(paging=common_pb2.PAGING_HAP))
    twin.memory_bytes = guest.memory_bytes
    assert_same_memory(pair, arrived, twin)
    pair.destination.delete(name)
    pair.source.delete(name)


def assert_same_memory(
    pair: Pair, arrived: common_pb2.GuestStatus, twin: common_pb2.GuestSpec
) -> None:
    """A model that does the same operations has the same memory and registers."""
    stood = pair.source.twin_at(twin, arrived.accesses)
    assert_same(arrived, stood)
    pair.source.delete(stood.guest_id)
