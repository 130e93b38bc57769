"""No lost update: a guest that migrated and a twin that never did cannot be told apart.

Every paging mode × clean policy × group × scope × filter, under every migration policy. The
twin boots alike and runs to the place where the guest was handed over; virtual time differs
(tracking costs), so both are compared at the same position. Then both run on, on the page
tables that the one was sent and the other always had.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product

import pytest

from paging_core.config import (
    CLEAN_POLICIES,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    Paging,
    TrackerConfig,
)
from source_host.precopy.link import Link
from source_host.precopy.policies import PolicyName
from source_host.precopy.report import Report
from tests.journey.in_process import assert_same, booted, migrated

MIB = 2**20
MEMORY_BYTES = 8 * MIB
LINK = Link(4 * 10**9, latency_ns=20_000)
"""Slow enough that the guest writes to most of what it writes to in every round."""
WARMUP_NS = 2_000_000
DOWNTIME_LIMIT_NS = 1_000_000
MAX_ROUNDS = 4
ACCESSES_AFTERWARDS = 20_000

CHURN = "churn:wss=1MiB,region=256KiB,fork_every=2000,children=3,write_rate=2M"
"""Its page tables change all the time: fork, copy-on-write, mmap, munmap, exit."""
OTHERS = (
    "hotcold:wss=4MiB,write_rate=4M,silent=0.2",
    "uniform:wss=3MiB,write_rate=1M",
    "zipf:wss=4MiB,huge=1,write_rate=1M",
)
GROUP_FRAMES = (8, 64, 4096)
"""The last one is larger than the guest."""


def groups(scopes: list[GroupScope]) -> Iterator[GroupPolicy]:
    for d_bit_filter in (False, True):
        yield GroupPolicy(1, scopes[0], d_bit_filter)
        for frames, scope in product(GROUP_FRAMES, scopes):
            yield GroupPolicy(frames, scope, d_bit_filter)


def trackers() -> Iterator[TrackerConfig]:
    eight = GroupPolicy(8)
    learned, second = GroupPolicy(adaptive=True), GroupPolicy(16, trigger=2)
    for paging, group in product(Paging, (learned, second)):
        for clean in CLEAN_POLICIES[paging]:
            yield TrackerConfig(paging, clean, group=group, clear_chunk_frames=128)
    for clean in CLEAN_POLICIES[Paging.SHADOW]:
        for group in groups(list(GroupScope)):
            yield TrackerConfig(Paging.SHADOW, clean, group=group)
        yield TrackerConfig(Paging.SHADOW, clean, group=eight, out_of_sync=False)
        yield TrackerConfig(Paging.SHADOW, clean, group=eight, prefetch=False)
        yield TrackerConfig(Paging.SHADOW, clean, group=eight, shadow_pool_frames=32)
    for clean in CLEAN_POLICIES[Paging.HAP]:
        for group in groups([GroupScope.PHYSICAL]):
            yield TrackerConfig(Paging.HAP, clean, group=group)
        yield TrackerConfig(Paging.HAP, clean, pml=True)


def tracker_id(tracker: TrackerConfig) -> str:
    group = tracker.group
    parts = [tracker.paging, tracker.clean_policy, str(group.frames), group.scope]
    flags = {
        "filter": group.d_bit_filter,
        "trigger": group.trigger > 1,
        "adaptive": group.adaptive,
        "pml": tracker.pml,
        "in-sync": not tracker.out_of_sync,
        "no-prefetch": not tracker.prefetch,
        "small-pool": tracker.shadow_pool_frames is not None,
    }
    return " ".join([*parts, *(name for name, on in flags.items() if on)])


def cases() -> Iterator[object]:
    """Every tracker under every policy: with churn twice at least, with the others in turn."""
    others = cycle(OTHERS)
    for i, tracker in enumerate(trackers()):
        even = i % 2 == 0
        for policy, workload in (
            (PolicyName.XEN_2009, CHURN),
            (PolicyName.XEN_2009, next(others)),
            (PolicyName.XEN, CHURN if even else next(others)),
            (PolicyName.QEMU, next(others) if even else CHURN),
        ):
            name = workload.partition(":")[0]
            yield pytest.param(
                tracker, policy, workload, id=f"{tracker_id(tracker)} {policy} {name}"
            )


def check_that_it_was_hard(report: Report) -> None:
    """The guest wrote beside every round, and something was left for the last one."""
    *live, last = report.rounds
    assert len(live) >= 2
    assert all(stats.dirty_frames > 0 for stats in live)
    assert last.stop_and_copy
    assert last.sent_frames > 0


@pytest.mark.parametrize(("tracker", "policy", "workload"), list(cases()))
def test_the_migrated_guest_and_its_twin_are_the_same(
    tracker: TrackerConfig, policy: PolicyName, workload: str
) -> None:
    config = GuestConfig(MEMORY_BYTES, tracker, workload=workload, seed=5)
    migration = migrated(
        config,
        LINK,
        policy=policy,
        warmup_ns=WARMUP_NS,
        downtime_limit_ns=DOWNTIME_LIMIT_NS,
        max_rounds=MAX_ROUNDS,
        zstd_level=0,
    )
    with migration as arrived, booted(config) as twin:
        check_that_it_was_hard(arrived.report)
        twin.run_accesses(arrived.guest.position)
        assert_same(arrived.guest, twin)
        for guest in (arrived.guest, twin):
            guest.run_accesses(ACCESSES_AFTERWARDS)
        assert_same(arrived.guest, twin)
