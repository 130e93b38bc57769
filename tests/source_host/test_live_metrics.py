"""What a source shows of a migration that runs: every figure, in its unit, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from paging_core.config import CleanPolicy, GroupPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.guest import ShadowPool
from source_host.precopy.clock_name import ClockName
from source_host.precopy.plan import Plan
from source_host.precopy.policies import PolicyName
from source_host.precopy.report import Report
from source_host.precopy.results import RoundStats, Totals
from source_host.states import MigrationState
from source_host.watch.live_metrics import Running, show_running

_P = "pageferry_source_migration_"
BEGUN = Report(
    state=MigrationState.SETUP, settled=False, rounds=(), current=None, totals=Totals(),
    downtime=None, cost=None, verified=False, error=None, memory_digest=0,
    estimated_downtime_ns=0,
)  # fmt: skip
TRACKER = TrackerConfig(Paging.SHADOW, CleanPolicy.BLOW, group=GroupPolicy(frames=8))
RUNNING = Running(
    slot=2,
    migration_id="web-1",
    guest_id="web",
    destination="b:50052",
    started_s=1.7e9,
    config=GuestConfig(8 * 2**20, TRACKER, workload="idle"),
    plan=Plan(PolicyName.QEMU, ClockName.REAL, downtime_limit_ns=250_000_000, max_rounds=3),
    report=BEGUN,
)
ALWAYS = {
    "info 2 web-1 web b:50052 qemu real shadow blow 8": 1,
    "started_timestamp_seconds 2": 1.7e9,
    "memory_bytes 2": 8 * 2**20,
    "max_rounds 2": 3,
    "downtime_limit_seconds 2": 0.25,
}


def shown(running: Running) -> dict[str, float]:
    """Every series, by name and values of labels."""
    registry = CollectorRegistry()
    show_running(registry, lambda: [running])
    return {
        " ".join([sample.name.removeprefix(_P), *sample.labels.values()]): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_before_the_first_round_nothing_is_made_up() -> None:
    assert shown(RUNNING) == {**ALWAYS, "state 2 setup": 1, "round 2": 0}


def test_in_the_second_round() -> None:
    """2000 frames went in 4 s and 400 became dirty, of which 250 are left: then 80, then 16."""
    first = RoundStats(1, stop_and_copy=False, to_send_frames=2048, data_frames=1000,
                       zero_frames=900, suppressed_frames=100, dirty_frames=400,
                       duration_ns=4_000_000_000)  # fmt: skip
    report = replace(
        BEGUN, state=MigrationState.PRE_COPY, rounds=(first,),
        current=RoundStats(2, stop_and_copy=False, to_send_frames=400, data_frames=150),
        owed_frames=250, bandwidth_bytes_per_s=1_000_000, estimated_downtime_ns=1_024_000_000,
        shadow_pool=ShadowPool(used_pages=30, pages=264),
    )  # fmt: skip
    assert shown(replace(RUNNING, report=report)) == pytest.approx(
        {
            **ALWAYS,
            "state 2 pre_copy": 1,
            "round 2": 2,
            "round_frames 2": 400,
            "remaining_frames 2": 250,
            "dirty_frames 2": 400,
            "dirty_bytes_per_second 2": 409_600,
            "sent_bytes_per_second 2": 2_048_000,
            "bandwidth_bytes_per_second 2": 1_000_000,
            "convergence_ratio 2": 0.2,
            "eta_seconds 2": (250 + 80 + 16) / 500,
            "estimated_downtime_seconds 2": 1.024,
            "shadow_pool_pages 2 used": 30,
            "shadow_pool_pages 2 free": 234,
        }
    )
