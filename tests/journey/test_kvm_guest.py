"""A virtual machine as guest, migrated live: by two hosts, on the real clock, every page proved."""

from __future__ import annotations

from typing import Any

import pytest

from guests.kvm.device import check_machine
from guests.kvm.errors import CannotVirtualize
from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import CALL_S, MIB, Pair, asking, new_name, spec, until
from tests.journey.test_real_clock import REAL, pause_there


def _why_not() -> str:
    try:
        check_machine()
    except CannotVirtualize as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not())
TRACKERS: dict[str, dict[str, Any]] = {
    "log": {},
    "blow": {"clean": common_pb2.CLEAN_POLICY_BLOW},
    "ring": {"tracking": common_pb2.TRACKING_DIRTY_RING},
}
LOAD = "hotcold:wss=8MiB,write_rate=400000"


@pytest.mark.parametrize("tracker", TRACKERS.values(), ids=list(TRACKERS))
def test_it_goes_on_there(pair: Pair, tracker: dict[str, Any]) -> None:
    guest = spec(new_name(), LOAD, tracker=common_pb2.TrackerConfig(**tracker))
    guest.memory_bytes = 16 * MIB
    guest.kind = common_pb2.GUEST_KIND_KVM
    name = pair.source.boot(guest)
    options = REAL | {
        "policy": pb.POLICY_XEN_2009, "downtime_limit_ns": 1, "warmup_ns": 20_000_000
    }  # fmt: skip
    status = pair.source.follow(pair.source.migrate(name, pair.destination.address, **options))
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert len(status.rounds) >= 3
    assert status.cost.faults["fixup"] > 0
    there = pair.destination.stub.GetGuest(asking(name), timeout=CALL_S)
    until(lambda: pair.destination.stub.GetGuest(asking(name)).accesses > there.accesses)
    arrived = pause_there(pair, name)
    assert arrived.accesses > there.accesses
    pair.destination.delete(name)
    pair.source.delete(name)
