"""What a result says of guest time, for every named workload under every tracker.

The overhead is tracked time over that of a guest which was booted apart and never logged, and what
stands beside it, cause by cause with what no cause explains, is all of it. Prices are those of
tests/paging_core/test_costs_hand_worked.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from pageferry.document import GuestResult, document_of
from pageferry.tables import overhead
from paging_core.config import (
    CLEAN_POLICIES,
    GroupPolicy,
    GuestConfig,
    Hypervisor,
    Paging,
    TrackerConfig,
)
from paging_core.costs import CostTable
from paging_core.events import CAUSES
from paging_core.guest import GuestCounters
from paging_core.model_guest import ModelGuest
from paging_core.workloads.catalog import describe_workloads
from tests.pageferry import statuses
from tests.paging_core.reference.harness import get_and_clear
from tests.paging_core.test_costs_hand_worked import PRICES
from wire.convert import guest_cost

MEMORY_BYTES = 8 << 20
ROUND_OPS = 1500
ROUNDS = 4
SMALL = {
    "churn": "wss=1MiB,region=64KiB,fork_every=400,children=3",
    "files": "wss=256KiB,file=512KiB,sync_every=200",
    "idle": "tick=10us",
    "phased": "wss=1MiB,phase_ops=700",
    "switches": "wss=1MiB,processes=3,switch_every=100",
}
"""So small that each does in these operations what it is named for."""
WORKLOADS = [
    f"{info.name}:{SMALL.get(info.name, 'wss=1MiB,writes=0.4,silent=0.1')}"
    for info in describe_workloads()
]


def trackers() -> Iterator[TrackerConfig]:
    """Every hypervisor, paging and clean policy, alone and in groups; each option once."""
    for hypervisor, paging in product(Hypervisor, Paging):
        yield TrackerConfig(hypervisor=hypervisor, paging=paging)
        for clean in CLEAN_POLICIES[paging]:
            eight = GroupPolicy(8, d_bit_filter=True)
            yield TrackerConfig(
                paging, clean, hypervisor=hypervisor, group=eight, clear_chunk_frames=128
            )
    for paging in Paging:
        yield TrackerConfig(paging, group=GroupPolicy(adaptive=True))
    for clean in CLEAN_POLICIES[Paging.HAP]:
        yield TrackerConfig(Paging.HAP, clean, pml=True)
    for hypervisor in (Hypervisor.XEN, Hypervisor.KVM):
        yield TrackerConfig(hypervisor=hypervisor, out_of_sync=False, prefetch=False)
        yield TrackerConfig(hypervisor=hypervisor, shadow_pool_frames=32, tlb_entries=16)
    yield TrackerConfig(hypervisor=Hypervisor.KVM, dirty_ring=128)


def tracker_id(tracker: TrackerConfig) -> str:
    named = [tracker.hypervisor, tracker.paging, tracker.clean_policy, f"{tracker.group.frames}"]
    options = {
        "adaptive": tracker.group.adaptive,
        "pml": tracker.pml,
        "in-sync": not tracker.out_of_sync,
        "small-pool": tracker.shadow_pool_frames is not None,
        "ring": tracker.dirty_ring > 0,
    }
    return " ".join([*named, *(name for name, given in options.items() if given)])


def told(config: GuestConfig, counters: GuestCounters) -> tuple[GuestResult, float | None]:
    """What the document of a migration with these counters says of the guest, and of overhead."""
    status = statuses.completed()
    status.cost.CopyFrom(guest_cost(counters))
    document = document_of(status, config)
    return document["guest"], overhead(document)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda spec: spec.partition(":")[0])
@pytest.mark.parametrize("tracker", list(trackers()), ids=tracker_id)
def test_the_parts_of_a_guests_time_are_the_whole(tracker: TrackerConfig, workload: str) -> None:
    config = GuestConfig(MEMORY_BYTES, tracker, workload, seed=3, costs=CostTable(PRICES))
    tracked, alone = ModelGuest.boot(config), ModelGuest.boot(config)
    for guest in (tracked, alone):
        guest.run_accesses(ROUND_OPS)
    began_ns = tracked.time_ns
    assert alone.time_ns == began_ns
    tracked.keep_twin()
    tracked.start_tracking()
    for _ in range(ROUNDS):
        tracked.run_accesses(ROUND_OPS)
        get_and_clear(tracked)
    alone.run_accesses(ROUNDS * ROUND_OPS)
    result, share = told(config, tracked.counters())
    tracked_ns, alone_ns = tracked.time_ns - began_ns, alone.time_ns - began_ns
    tracked.close()
    alone.close()

    times = result["time_ns"]
    assert set(times) == {"base", *CAUSES, "unattributed"}
    assert sum(times.values()) == pytest.approx(tracked_ns, abs=1)  # picoseconds were cut off
    assert times["base"] == pytest.approx(alone_ns, abs=1)
    assert share == pytest.approx(tracked_ns / alone_ns - 1, abs=2 / alone_ns)
    for cause in CAUSES:
        counted = result["events_by"].get(cause, {})
        assert times[cause] == sum(n * PRICES[event] for event, n in counted.items())
    everything = [counts for name, counts in result["events_by"].items() if name in CAUSES]
    assert everything  # tracking cost something
