"""While a migration runs the source shows it in a slot, and who it is; afterwards nothing stays."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import BUSY, CALL_S, CHURN, Pair, new_name, spec, until
from tests.journey.metrics import Values, page, scrape
from tests.journey.relay import Hold, Relay, cut
from wire.hosting.launch import HostProcess

_P = "pageferry_source_"
_OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def live(pair: Pair) -> Values:
    """What the source shows of migrations that run."""
    shown = scrape(pair.source.process)
    return {key: value for key, value in shown.items() if key[0].startswith(f"{_P}migration_")
            and ("slot", "0") in key}  # fmt: skip


def of(values: Values, name: str, **labels: str) -> float:
    return values[(f"{_P}migration_{name}", *sorted({"slot": "0", **labels}.items()))]


def test_what_is_shown_is_what_the_host_says_of_the_migration(pair: Pair, relay: Relay) -> None:
    name = pair.source.boot(spec(new_name(), CHURN))
    with Hold() as hold:
        relay.on_batch = hold.in_round(3)
        migration = pair.source.migrate(name, relay.address, max_rounds=7)
        assert hold.reached.wait(CALL_S)
        # Batches before the one that is held may still be counted.
        until(lambda: left_of(live(pair)) == left(pair.source.status(migration)))
        shown, status = live(pair), pair.source.status(migration)
    last = status.rounds[1]
    assert of(
        shown, "info", migration_id=migration, guest_id=name, destination=relay.address,
        policy="xen", clock="virtual", paging="shadow", clean="blow", group_frames="1",
    ) == 1  # fmt: skip
    assert of(shown, "state", state="pre_copy") == 1
    assert {
        "round": of(shown, "round"),
        "most": of(shown, "max_rounds"),
        "to send": of(shown, "round_frames"),
        "dirty": of(shown, "dirty_frames"),
        "memory": of(shown, "memory_bytes"),
        "downtime": of(shown, "estimated_downtime_seconds"),
        "limit": of(shown, "downtime_limit_seconds"),
        "convergence": of(shown, "convergence_ratio"),
    } == {
        "round": 3,
        "most": 7,
        "to send": status.current.to_send_frames,
        "dirty": last.dirty_frames,
        "memory": status.guest.memory_bytes,
        "downtime": pytest.approx(status.estimated_downtime_ns * 1e-9),
        "limit": 0.3,
        "convergence": pytest.approx(last.dirty_frames / last.sent_frames),
    }
    pages = [of(shown, "shadow_pool_pages", use=use) for use in ("used", "free")]
    assert sum(pages) == 256 + 8  # Xen's default for 8 MiB
    assert min(pages) > 0
    assert pair.source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
    assert not live(pair)


def left_of(values: Values) -> float:
    return of(values, "remaining_frames")


def left(status: pb.MigrationStatus) -> int:
    """What the round under way has left, as the contract tells it."""
    return status.current.to_send_frames - status.current.sent_frames


def test_each_of_several_has_a_slot_and_gives_it_back(pair: Pair, relay: Relay) -> None:
    names = [pair.source.boot(spec(new_name(), BUSY)) for _ in range(3)]
    with Hold() as hold:
        relay.on_batch = hold.in_round(1)
        begun = [pair.source.migrate(name, relay.address) for name in names]
        slots = {
            dict(labels)["migration_id"]: dict(labels)["slot"]
            for name, *labels in scrape(pair.source.process)
            if name == f"{_P}migration_info"
        }
        assert slots == dict(zip(begun, ("0", "1", "2"), strict=True))
        pair.source.cancel(begun[1])
        pair.source.follow(begun[1])
        again = pair.source.migrate(names[1], relay.address)
        assert who_has(pair, "1") == again
    for migration in (begun[0], begun[2], again):
        pair.source.follow(migration)


def who_has(pair: Pair, slot: str) -> str:
    """The migration in a slot."""
    (info,) = (
        dict(labels)
        for name, *labels in scrape(pair.source.process)
        if name == f"{_P}migration_info" and ("slot", slot) in labels
    )
    return info["migration_id"]


def guests(host: HostProcess) -> dict[str, dict[str, str]]:
    """Those that a host names, by name."""
    shown = [dict(labels) for name, *labels in scrape(host) if name.endswith("_guest_info")]
    return {labels["guest_id"]: labels for labels in shown}


def test_a_guest_is_named_by_the_host_that_holds_it(pair: Pair) -> None:
    name = pair.source.boot(spec(new_name()))
    assert guests(pair.source.process)[name]["state"] == "paused"
    assert name not in guests(pair.destination.process)
    status = pair.source.follow(pair.source.migrate(name, pair.destination.address))
    assert name not in guests(pair.source.process)
    there = guests(pair.destination.process)[name]
    assert there["migration_id"] == status.migration_id
    pair.destination.delete(name)
    assert name not in guests(pair.destination.process)


def test_a_hand_over_in_doubt_is_counted_and_its_guest_named(pair: Pair, relay: Relay) -> None:
    def counted(result: str) -> float:
        return scrape(pair.source.process)[f"{_P}handovers_total", ("result", result)]

    before = {result: counted(result) for result in ("in_doubt", "resolved_moved", "committed")}
    relay.after["Commit"] = cut
    name = pair.source.boot(spec(new_name()))
    with Hold() as hold:
        relay.before["GetIncoming"] = hold
        migration = pair.source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        assert guests(pair.source.process)[name] == {
            "guest_id": name, "state": "in_doubt", "migration_id": migration,
        }  # fmt: skip
        assert counted("in_doubt") == before["in_doubt"] + 1
        assert counted("resolved_moved") == before["resolved_moved"]
    assert pair.source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
    assert counted("resolved_moved") == before["resolved_moved"] + 1
    assert counted("committed") == before["committed"]


@pytest.mark.parametrize(("limit_ns", "missed"), [(1, 1), (10**12, 0)])
def test_a_downtime_over_its_limit_is_counted(pair: Pair, limit_ns: int, missed: int) -> None:
    key = (f"{_P}downtime_limit_missed_total",)
    before = scrape(pair.source.process)[key]
    name = pair.source.boot(spec(new_name()))
    migration = pair.source.migrate(name, pair.destination.address, downtime_limit_ns=limit_ns)
    assert pair.source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
    assert scrape(pair.source.process)[key] == before + missed


def test_moments_are_told_in_their_order(pair: Pair) -> None:
    name = pair.source.boot(spec(new_name()))
    pair.source.follow(pair.source.migrate(name, pair.destination.address))
    shown = scrape(pair.source.process)
    moments = ("started", "suspend", "round", "handover")
    times = [shown[f"{_P}last_moment_timestamp_seconds", ("moment", one)] for one in moments]
    assert times == sorted(times)
    assert times[0] > 1e9


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("source", "downtime_seconds"),
        ("source", "rounds"),
        ("source", "handovers"),
        ("destination", "verifications"),
        ("destination", "batch_seconds"),
        ("destination", "handovers"),
    ],
)
def test_samples_lead_to_their_migration(pair: Pair, host: str, family: str) -> None:
    guest = spec(new_name(), tracker=common_pb2.TrackerConfig())
    status = pair.source.follow(
        pair.source.migrate(pair.source.boot(guest), pair.destination.address)
    )
    process = pair.source.process if host == "source" else pair.destination.process
    text = page(process, _OPEN_METRICS)
    shown = {one.name: one for one in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    samples = shown[f"pageferry_{host}_{family}"].samples
    named = [sample.exemplar.labels for sample in samples if sample.exemplar]
    assert {"migration_id": status.migration_id} in named
