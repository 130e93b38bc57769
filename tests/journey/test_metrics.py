"""The metrics pages of both hosts: everything is there, named well, bounded, and right."""

from __future__ import annotations

import re

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.events import FAULT_KINDS
from tests.journey.hosts import CHURN, Pair, new_name, spec
from tests.journey.metrics import Values, families, page, scrape
from tests.observability.deployed import promtool
from wire.hosting.launch import HostProcess

SOURCE = {
    "guest_faults": "counter",
    "guest_fixup_faults": "counter",
    "shadow_pages_built": "counter",
    "shadow_pages_torn_down": "counter",
    "guest_tracking_seconds": "counter",
    "guest_base_seconds": "counter",
    "log_dirty_cleans": "counter",
    "log_dirty_clean_seconds": "counter",
    "dirty_frames": "counter",
    "falsely_dirty_frames": "counter",
    "rounds": "counter",
    "frames_sent": "counter",
    "frames_skipped": "counter",
    "repaired_frames": "counter",
    "raw_bytes": "counter",
    "wire_bytes": "counter",
    "bandwidth_bytes_per_second": "gauge",
    "batch_ack_seconds": "histogram",
    "migrations": "counter",
    "verifications": "counter",
    "guest_slowdown_ratio": "histogram",
    "downtime_seconds": "histogram",
    "downtime_part_seconds": "histogram",
    "migration_seconds": "histogram",
    "build_info": "gauge",
    "guests": "gauge",
    "migrations_in_state": "gauge",
    "handovers": "counter",
    "downtime_limit_missed": "counter",
    "last_moment_timestamp_seconds": "gauge",
    "memory_reserved_bytes": "gauge",
    "guest_info": "gauge",
}
LIVE = {
    "migration_info",
    "migration_state",
    "migration_started_timestamp_seconds",
    "migration_memory_bytes",
    "migration_round",
    "migration_max_rounds",
    "migration_round_frames",
    "migration_remaining_frames",
    "migration_dirty_frames",
    "migration_dirty_bytes_per_second",
    "migration_sent_bytes_per_second",
    "migration_bandwidth_bytes_per_second",
    "migration_convergence_ratio",
    "migration_eta_seconds",
    "migration_estimated_downtime_seconds",
    "migration_downtime_limit_seconds",
    "migration_shadow_pool_pages",
}
"""Of the source, while a migration runs."""
DESTINATION = {
    "frames": "counter",
    "received_bytes": "counter",
    "batch_seconds": "histogram",
    "batches_refused": "counter",
    "verifications": "counter",
    "verify_seconds": "histogram",
    "migrations": "counter",
    "incoming": "gauge",
    "guests": "gauge",
    "memory_reserved_bytes": "gauge",
    "build_info": "gauge",
    "handovers": "counter",
    "guest_info": "gauge",
}
COMES_AND_GOES = LIVE | {"guest_info"}
LABELS = {"kind", "cause", "phase", "outcome", "result", "clock", "part", "state", "form",
          "reason", "use", "moment", "le", "version", "contract", "python"}  # fmt: skip
UNITS = ("_seconds", "_bytes", "_ratio", "_info", "_bytes_per_second")


def migrate_one(pair: Pair) -> pb.MigrationStatus:
    """A grouped guest, whose tables change, under shadow paging."""
    tracker = common_pb2.TrackerConfig(group=common_pb2.GroupPolicy(frames=8))
    name = pair.source.boot(spec(new_name("measured"), CHURN, tracker=tracker))
    status = pair.source.follow(pair.source.migrate(name, pair.destination.address))
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    return status


def hosts(pair: Pair) -> dict[str, HostProcess]:
    return {"source": pair.source.process, "destination": pair.destination.process}


@pytest.mark.parametrize(
    ("host", "expected"),
    [("source", SOURCE | dict.fromkeys(LIVE, "gauge")), ("destination", DESTINATION)],
)
def test_every_family_is_there_and_named_by_the_conventions(
    pair: Pair, host: str, expected: dict[str, str]
) -> None:
    migrate_one(pair)
    prefix = f"pageferry_{host}_"
    shown = families(hosts(pair)[host])
    own = {name.removeprefix(prefix): family for name, family in shown.items() if prefix in name}
    assert {name: family.type for name, family in own.items()} == expected
    for name, family in own.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert len(family.documentation) > 20
        assert family.documentation.endswith(".")
        assert family.samples or name in COMES_AND_GOES, name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{prefix}{name}_total"}
        if family.type == "histogram":
            assert name.endswith(UNITS)
    assert {name.split("_")[0] for name in shown} == {"pageferry", "process"}


def lasting(values: Values) -> Values:
    """Without the series that are there for as long as what they are about."""
    gone = tuple(f"_{name}" for name in COMES_AND_GOES)
    return {key: value for key, value in values.items() if not key[0].endswith(gone)}


@pytest.mark.parametrize("host", ["source", "destination"])
def test_another_migration_adds_no_series(pair: Pair, host: str) -> None:
    migrate_one(pair)
    before = lasting(scrape(hosts(pair)[host]))
    status = migrate_one(pair)
    after = lasting(scrape(hosts(pair)[host]))
    assert set(before) == set(after)
    for _, *labels in after:
        for name, value in labels:
            assert name in LABELS
            assert status.guest_id not in value
    assert len(after) < 400


def more(before: Values, after: Values) -> Values:
    """What came on top."""
    return {key: value - before.get(key, 0) for key, value in after.items()}


def test_the_source_counts_what_the_migration_reports(pair: Pair) -> None:
    before = scrape(pair.source.process)
    status = migrate_one(pair)
    grown = {
        (name.removeprefix("pageferry_source_"), *labels): value
        for (name, *labels), value in more(before, scrape(pair.source.process)).items()
    }
    live = [stats for stats in status.rounds if not stats.stop_and_copy]
    totals, downtime, cost = status.totals, status.downtime, status.cost
    assert {
        "rounds": grown["rounds_total", ("phase", "live")],
        "last": grown["rounds_total", ("phase", "stop_and_copy")],
        "repairs": grown["rounds_total", ("phase", "repair")],
        "repaired": grown["repaired_frames_total",],
        "data": grown["frames_sent_total", ("kind", "data")],
        "zero": grown["frames_sent_total", ("kind", "zero")],
        "unchanged": grown["frames_sent_total", ("kind", "unchanged")],
        "raw": grown["raw_bytes_total",],
        "wire": grown["wire_bytes_total",],
        "dirty": grown["dirty_frames_total",],
        "falsely dirty": grown["falsely_dirty_frames_total",],
        "fixups": grown["guest_fixup_faults_total",],
        "completed": grown["migrations_total", ("outcome", "completed")],
        "failed": grown["migrations_total", ("outcome", "failed")],
        "match": grown["verifications_total", ("result", "match")],
        "mismatch": grown["verifications_total", ("result", "mismatch")],
        "slowdowns": grown["guest_slowdown_ratio_count",],
        "downtimes": grown["downtime_seconds_count", ("clock", "virtual")],
        "built": grown["shadow_pages_built_total",],
        "torn down": grown["shadow_pages_torn_down_total",],
    } == {
        "rounds": len(live),
        "last": 1,
        "repairs": 0,
        "repaired": 0,
        "data": totals.data_frames,
        "zero": totals.zero_frames,
        "unchanged": totals.suppressed_frames,
        "raw": 4096 * totals.data_frames,
        "wire": totals.wire_bytes,
        "dirty": sum(stats.dirty_frames for stats in status.rounds),
        "falsely dirty": totals.falsely_dirty_frames,
        "fixups": cost.faults["fixup"],
        "completed": 1,
        "failed": 0,
        "match": 1,
        "mismatch": 0,
        "slowdowns": 1,
        "downtimes": 1,
        "built": cost.events["shadow_page_build"],
        "torn down": cost.events["shadow_teardown_page"],
    }
    assert grown["log_dirty_cleans_total",] >= len(live)
    assert grown["batch_ack_seconds_count",] >= len(status.rounds)
    seconds = {
        "guest_slowdown_ratio_sum": cost.slowdown,
        "guest_base_seconds_total": cost.base_ns * 1e-9,
    }
    for name, value in seconds.items():
        assert grown[name,] == pytest.approx(value)
    assert grown["downtime_seconds_sum", ("clock", "virtual")] == pytest.approx(
        downtime.total_ns * 1e-9
    )
    parts = sum(v for (name, *_), v in grown.items() if name == "downtime_part_seconds_sum")
    assert parts == pytest.approx(downtime.total_ns * 1e-9)
    for kind in FAULT_KINDS:
        if kind != "fixup":
            assert grown["guest_faults_total", ("kind", kind)] == cost.faults[kind], kind
    for cause, ns in cost.tracking_ns.items():
        assert grown["guest_tracking_seconds_total", ("cause", cause)] == pytest.approx(ns * 1e-9)


def test_the_destination_counts_what_the_source_sent(pair: Pair) -> None:
    before = scrape(pair.destination.process)
    status = migrate_one(pair)
    grown = {
        (name.removeprefix("pageferry_destination_"), *labels): value
        for (name, *labels), value in more(before, scrape(pair.destination.process)).items()
    }
    totals = status.totals
    assert {
        "data": grown["frames_total", ("kind", "data")],
        "zero": grown["frames_total", ("kind", "zero")],
        "unchanged": grown["frames_total", ("kind", "unchanged")],
        "raw": grown["received_bytes_total", ("form", "raw")],
        "wire": grown["received_bytes_total", ("form", "wire")],
        "equal": grown["verifications_total", ("result", "equal")],
        "repaired": grown["verifications_total", ("result", "repaired")],
        "committed": grown["migrations_total", ("outcome", "committed")],
        "guests": grown["guests", ("state", "paused")],
        "memory": grown["memory_reserved_bytes", ("use", "guest")],
        "incoming": grown["memory_reserved_bytes", ("use", "incoming")],
    } == {
        "data": totals.data_frames,
        "zero": totals.zero_frames,
        "unchanged": totals.suppressed_frames,
        "raw": 4096 * totals.sent_frames,
        "wire": totals.wire_bytes,
        "equal": 1,
        "repaired": 0,
        "committed": 1,
        "guests": 1,
        "memory": status.guest.memory_bytes,
        "incoming": 0,
    }
    assert grown["batch_seconds_count",] >= len(status.rounds)
    refused = (v for (name, *_), v in grown.items() if name == "batches_refused_total")
    assert sum(refused) == 0


@pytest.mark.parametrize("host", ["source", "destination"])
def test_prometheus_has_nothing_to_say_against_them(pair: Pair, host: str) -> None:
    migrate_one(pair)
    done = promtool("check", "metrics", given=page(hosts(pair)[host]))
    assert done.returncode == 0, done.stdout
    assert not done.stdout
