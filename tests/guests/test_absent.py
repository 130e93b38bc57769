"""What no tracker knows is absent wherever a person reads, and not 0."""

from __future__ import annotations

import io

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from pageferry import tables
from pageferry.document import Document, document_of
from pageferry.document_schema import schema
from pageferry.progress import round_line
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.memory import GuestMemory
from source_host.messages import filled_in, migration_status, request_of
from source_host.migration import Migration
from source_host.precopy.clock_name import ClockName
from source_host.precopy.plan import Plan
from source_host.precopy.transport import Offer
from source_host.watch.metrics import Metrics
from tests.guests.fake import FakeGuest, FakePacedGuest, busy
from tests.keyed import KEY
from tests.source_host.fake_destination import FakeDestination
from tests.source_host.harness import PLAN
from wire.convert import guest_spec
from wire.hosting.guests.states import GuestState, guest_lifecycle

N_FRAMES = 300
CONFIG = GuestConfig(N_FRAMES * 4096)
REAL = Plan(clock=ClockName.REAL, warmup_ns=20_000_000, max_rounds=3)


def migrated(guest: FakeGuest, plan: Plan, metrics: Metrics) -> pb.MigrationStatus:
    """Move it to a fake destination; its status as a client gets it."""
    life = guest_lifecycle("vm")
    life.to(GuestState.RUNNING)
    destination = FakeDestination(guest.n_frames)
    migration = Migration(
        plan=plan,
        offer=Offer("vm-1", "vm", CONFIG, KEY),
        guest_life=life,
        transport=destination,
        observers=[metrics.of_migration("vm-1", plan)],
    )
    try:
        migration.run(guest)
    finally:
        guest.close()
    report, request = migration.report(), filled_in(request_of(plan), plan)
    assert report.error is None
    status = migration_status("vm-1", request, guest_spec("vm", CONFIG), report, life.state)
    return pb.MigrationStatus.FromString(status.SerializeToString())


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="module")
def real(registry: CollectorRegistry) -> pb.MigrationStatus:
    """Of a guest that knows what a tracker knows, on the real clock."""
    guest = FakePacedGuest(GuestMemory(N_FRAMES), busy(10, 50))
    return migrated(guest, REAL, Metrics(registry))


@pytest.fixture(scope="module")
def document(real: pb.MigrationStatus) -> Document:
    return document_of(real, CONFIG)


def test_the_document_says_null(document: Document) -> None:
    cleaned = [stats for stats in document["rounds"] if stats["dirty"]]
    assert cleaned
    assert all(stats["falsely_dirty"] is None for stats in cleaned)
    assert document["pages"]["falsely_dirty"] is None
    assert "base" not in document["guest"]["time_ns"]
    assert document["guest"]["slowdown"] is None
    assert document["density"] is None


def test_such_a_document_is_one(document: Document) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(document, schema())


def test_the_tables_show_it_as_absent(document: Document) -> None:
    written = io.StringIO()
    console = Console(file=written, width=100)
    console.print(tables.summary([document], ["real"]))
    lines = written.getvalue().splitlines()
    assert next(line for line in lines if "falsely dirty" in line).split()[-1] == tables.ABSENT
    assert next(line for line in lines if "tracking overhead" in line).split()[-1] == tables.ABSENT
    assert not any("per touched" in line for line in lines)


def test_the_progress_can_be_shown(real: pb.MigrationStatus) -> None:
    assert "dirty after it" in round_line(real.rounds[0])


def test_the_metrics_count_nothing_that_nobody_knows(
    real: pb.MigrationStatus, registry: CollectorRegistry
) -> None:
    assert real.rounds
    found = {s.name: s.value for m in registry.collect() for s in m.samples if not s.labels}
    assert found["pageferry_source_dirty_frames_total"] > 0
    assert found["pageferry_source_falsely_dirty_frames_total"] == 0
    assert [n for name, n in found.items() if "slowdown" in name and name.endswith("_count")] == [0]


def test_a_guest_that_knows_says_so() -> None:
    """The same way with a guest that knows: nothing above is null by itself."""
    guest = FakeGuest(GuestMemory(N_FRAMES), busy(10, 50))
    known = document_of(migrated(guest, PLAN, Metrics(CollectorRegistry())), CONFIG)
    assert known["pages"]["falsely_dirty"] == 0
    assert known["guest"]["time_ns"]["base"] > 0
