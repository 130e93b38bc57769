"""What a source counts of a migration, and in which units: figures worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from paging_core.guest import Cleaned, GuestCounters
from paging_core.log_dirty import words_of
from source_host.host import SourceHost
from source_host.precopy.clock_name import ClockName
from source_host.precopy.link import Link
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.results import Downtime, RoundStats, Totals
from source_host.settings import SourceSettings
from source_host.states import MigrationState
from source_host.watch.metrics import Metrics, MigrationMetrics
from tests.source_host.test_booting import config
from wire.hosting.guests.states import GuestState

MIB = 2**20
_P = "pageferry_source_"
_UNCOUNTED = ("_created", "_bucket", "_last_moment_timestamp_seconds")

COMMITS = (MigrationState.PRE_COPY, MigrationState.STOP_AND_COPY, MigrationState.VERIFYING,
           MigrationState.COMMITTING)  # fmt: skip


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


def observer(registry: CollectorRegistry, clock: ClockName = ClockName.REAL) -> MigrationMetrics:
    plan = Plan(clock=clock, link=Link(10**9), downtime_limit_ns=50_000_000)
    return Metrics(registry).of_migration("web-1", plan)


def samples(registry: CollectorRegistry) -> Iterator[Sample]:
    for family in registry.collect():
        yield from family.samples


def counted(registry: CollectorRegistry) -> dict[str, float]:
    """Everything that is not 0, by name and values of labels."""
    return {
        " ".join([sample.name.removeprefix(_P), *sample.labels.values()]): sample.value
        for sample in samples(registry)
        if sample.value and not sample.name.endswith(_UNCOUNTED)
    }


def report(
    state: MigrationState, downtime: Downtime | None = None, cost: GuestCounters | None = None
) -> Report:
    return Report(
        state=state, settled=state.is_outcome, rounds=(), current=None,
        totals=Totals(total_ns=7_000_000_000), downtime=downtime, cost=cost, verified=True,
        error=None, memory_digest=0, estimated_downtime_ns=0,
    )  # fmt: skip


def counters(times: int) -> GuestCounters:
    """A guest's totals after so many equal stretches."""
    return GuestCounters(
        faults={"read_build": 3 * times, "write_build": 5 * times, "fixup": 2 * times,
                "total": 8 * times},
        events={"access": 1000 * times, "shadow_page_build": 4 * times,
                "shadow_teardown_page": 6 * times},
        tracking_ns={"fixup": 20_000_000 * times, "rebuild": 50_000_000 * times},
        base_ns=700_000_000 * times,
        untracked_ns=700_000_000 * times,
        accesses=1000 * times,
    )  # fmt: skip


def test_cleans_and_what_the_guest_paid_since_the_last_one(registry: CollectorRegistry) -> None:
    told = observer(registry)
    dirty = words_of(np.array([0, 1, 2, 64, 65]), 128)
    for times in (1, 2):
        told.cleaned(Cleaned(dirty, 90, 80, 2, 1_500_000), counters(times))
    assert counted(registry) == pytest.approx(
        {
            "log_dirty_cleans_total": 2,
            "log_dirty_clean_seconds_total": 0.003,
            "dirty_frames_total": 10,
            "falsely_dirty_frames_total": 4,
            "guest_faults_total read_build": 6,
            "guest_faults_total write_build": 10,
            "guest_fixup_faults_total": 4,
            "shadow_pages_built_total": 8,
            "shadow_pages_torn_down_total": 12,
            "guest_tracking_seconds_total fixup": 0.04,
            "guest_tracking_seconds_total rebuild": 0.1,
            "guest_base_seconds_total": 1.4,
        }
    )


def test_rounds(registry: CollectorRegistry) -> None:
    told = observer(registry)
    told.round_sent(RoundStats(1, False, 100, 50, 30, 9, 11, 204_800, 100_000), 5_000_000)
    told.round_sent(RoundStats(2, True, 12, 7, 3, 2, 0, 28_672, 30_000), 0)
    told.acknowledged(0.25)
    assert counted(registry) == pytest.approx(
        {
            "rounds_total live": 1,
            "rounds_total stop_and_copy": 1,
            "frames_sent_total data": 57,
            "frames_sent_total zero": 33,
            "frames_sent_total unchanged": 11,
            "frames_skipped_total": 11,
            "raw_bytes_total": 233_472,
            "wire_bytes_total": 130_000,
            "bandwidth_bytes_per_second": 5_000_000,
            "batch_ack_seconds_count": 1,
            "batch_ack_seconds_sum": 0.25,
        }
    )


@pytest.mark.parametrize("clock", ClockName)
def test_a_migration_that_completes(registry: CollectorRegistry, clock: ClockName) -> None:
    told = observer(registry, clock)
    told.verified(agreed=True)
    for state in COMMITS:
        told.changed(report(state))
    downtime = Downtime(1_000_000, 20_000_000, 3_000_000, 40_000_000, 5_000_000)
    for _ in range(2):  # its rounds change, say
        told.changed(report(MigrationState.COMPLETED, downtime, counters(1)))
    assert counted(registry) == pytest.approx(
        {
            "verifications_total match": 1,
            "handovers_total committed": 1,
            "migrations_total completed": 1,
            "downtime_limit_missed_total": 1,
            f"downtime_seconds_count {clock}": 1,
            f"downtime_seconds_sum {clock}": 0.069,
            **{f"downtime_part_seconds_count {clock} {part}": 1
               for part in ("suspend", "last_round", "state", "verify", "commit")},
            f"downtime_part_seconds_sum {clock} suspend": 0.001,
            f"downtime_part_seconds_sum {clock} last_round": 0.02,
            f"downtime_part_seconds_sum {clock} state": 0.003,
            f"downtime_part_seconds_sum {clock} verify": 0.04,
            f"downtime_part_seconds_sum {clock} commit": 0.005,
            f"migration_seconds_count {clock}": 1,
            f"migration_seconds_sum {clock}": 7,
            "guest_slowdown_ratio_count": 1,
            "guest_slowdown_ratio_sum": 1.1,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("untracked_ns", "slowdown"),
    [
        (500_000_000, 1.54),  # 770 ms of guest time against the twin's 500
        (None, 1.1),  # no twin, as on the real clock: 70 ms of causes beside 700 of base
    ],
)
def test_the_slowdown_of_a_migration(
    registry: CollectorRegistry, untracked_ns: int | None, slowdown: float
) -> None:
    told = observer(registry)
    cost = replace(counters(1), untracked_ns=untracked_ns)
    told.changed(report(MigrationState.FAILED, cost=cost))
    found = counted(registry)
    assert found["guest_slowdown_ratio_count"] == 1
    assert found["guest_slowdown_ratio_sum"] == pytest.approx(slowdown)


@pytest.mark.parametrize(
    ("states", "handovers", "outcome"),
    [
        ((*COMMITS, MigrationState.FAILED), ["refused"], "failed"),
        ((*COMMITS, MigrationState.IN_DOUBT), ["in_doubt"], None),
        ((*COMMITS, MigrationState.IN_DOUBT, MigrationState.FAILED),
         ["in_doubt", "resolved_stayed"], "failed"),
        ((*COMMITS, MigrationState.IN_DOUBT, MigrationState.COMPLETED),
         ["in_doubt", "resolved_moved"], "completed"),
        ((*COMMITS[:2], MigrationState.FAILED), [], "failed"),
        ((*COMMITS[:2], MigrationState.CANCELLED), [], "cancelled"),
    ],
)  # fmt: skip
def test_what_became_of_a_commit(
    registry: CollectorRegistry,
    states: tuple[MigrationState, ...],
    handovers: list[str],
    outcome: str | None,
) -> None:
    told = observer(registry)
    for state in states:
        told.changed(report(state))
    expected = {f"handovers_total {result}": 1.0 for result in handovers}
    if outcome is not None:
        expected[f"migrations_total {outcome}"] = 1
    assert counted(registry) == expected


def test_a_repair(registry: CollectorRegistry) -> None:
    """Its frames were sent like any others, and are counted once more for the alert."""
    told = observer(registry)
    told.round_sent(RoundStats(3, True, 12, 7, 5, wire_bytes=30_000, repair=True), 0)
    assert counted(registry) == {
        "rounds_total repair": 1,
        "frames_sent_total data": 7,
        "frames_sent_total zero": 5,
        "wire_bytes_total": 30_000,
        "repaired_frames_total": 12,
    }


def test_memory_that_differed(registry: CollectorRegistry) -> None:
    observer(registry).verified(agreed=False)
    assert counted(registry) == {"verifications_total mismatch": 1}


def test_every_sample_leads_to_its_migration(registry: CollectorRegistry) -> None:
    told = observer(registry)
    told.acknowledged(0.25)
    told.cleaned(Cleaned(words_of(np.array([3]), 64), 1, 1, 1, 1_000), counters(1))
    told.round_sent(RoundStats(1, False, 9, 2, 3, 4, 5, 8192, 9000), 1)
    told.verified(agreed=True)
    for state in COMMITS:
        told.changed(report(state))
    downtime = Downtime(10**9, 10**9, 10**9, 10**9, 10**9)
    told.changed(report(MigrationState.COMPLETED, downtime, counters(1)))
    grown = [one for one in samples(registry) if one.value]
    leading = {one.name: one.exemplar.labels for one in grown if one.exemplar}
    names = {one.name for one in grown if one.name.endswith(("_total", "_bucket"))}
    assert leading == {name: {"migration_id": "web-1"} for name in names}


def test_guests_are_counted_by_state_and_by_memory() -> None:
    host = SourceHost(SourceSettings(listen="127.0.0.1:0"))
    for name, megabytes in (("one", 1), ("two", 2), ("three", 3)):
        host.guests.create(name, config(megabytes * MIB))
    host.guests.get("two").start()
    shown = {
        name: value
        for name, value in counted(host.server.registry).items()
        if name.startswith(("guests", "memory_reserved_bytes"))
    }
    assert shown == {"guests paused": 2, "guests running": 1, "memory_reserved_bytes": 6 * MIB}


def test_guests_in_doubt_are_named_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need an operator, and only so many are named."""
    monkeypatch.setattr("wire.hosting.metrics.NAMED_GUESTS", 2)
    host = SourceHost(SourceSettings(listen="127.0.0.1:0"))
    for name in ("a", "b", "c", "z"):
        host.guests.create(name, config(MIB))
    host.guests.get("a").life.to(GuestState.MOVED)
    host.guests.get("z").claim("z-1")
    host.guests.get("z").life.to(GuestState.IN_DOUBT)
    named = [name for name in counted(host.server.registry) if name.startswith("guest_info")]
    assert named == ["guest_info z in_doubt z-1", "guest_info b paused "]
