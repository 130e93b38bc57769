"""A source: what a migration leaves behind holds no guest, and no lack of anything ends it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from weakref import ReferenceType, ref

import pytest
from prometheus_client import CollectorRegistry

from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig, MemoryFill
from paging_core.errors import LimitExceeded
from paging_core.guest import Guest
from paging_core.model_guest import ModelGuest
from source_host.grpc_transport import GrpcTransport
from source_host.host import SourceHost
from source_host.migrations import HostedMigration, Migrations
from source_host.precopy.progress import Progress
from source_host.settings import SourceSettings
from source_host.states import MigrationState
from source_host.watch.metrics import Metrics
from tests.dest_host.test_exhaustion import in_a_cgroup
from tests.journey.hosts import until
from tests.source_host.harness import GIGABIT, Notes
from wire.hosting.guests.guests import Guests
from wire.hosting.room import HEADROOM_BYTES, OWN_BYTES

MIB = 2**20


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is in a cycle of references stays: memory must not wait for the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def host() -> Iterator[SourceHost]:
    host = SourceHost(SourceSettings())
    yield host
    host.guests.close()


def asked(guest_id: str, flow_directory: str = "") -> pb.MigrateRequest:
    """To where nobody listens."""
    return pb.MigrateRequest(
        guest_id=guest_id,
        destination="127.0.0.1:1",
        link_bits_per_s=GIGABIT,
        flow_directory=flow_directory,
    )


def failed(host: SourceHost, guest_id: str) -> ReferenceType[Guest]:
    """A guest whose migration found nobody, deleted."""
    config = GuestConfig(4 * MIB, workload="idle")
    guest = ref(host.guests.create(guest_id, config)._present())
    entry = host.migrations.start(asked(guest_id))
    until(lambda: entry.is_settled)
    until(lambda: not entry._thread.is_alive())
    assert entry.state is MigrationState.FAILED
    host.guests.delete(guest_id)
    return guest


def test_a_guest_whose_migration_failed_is_gone_when_it_is_deleted(
    host: SourceHost, without_collector: None
) -> None:
    del without_collector
    guests = [failed(host, f"web-{number}") for number in range(3)]
    assert [guest() for guest in guests] == [None] * 3
    assert len(host.migrations.all()) == 3  # they are remembered all the same


def test_a_boot_that_fails_leaves_no_guest(host: SourceHost, without_collector: None) -> None:
    del without_collector
    made: list[ReferenceType[ModelGuest]] = []
    boot = ModelGuest._boot

    def seen(config: GuestConfig, *arguments: object) -> ModelGuest:
        guest = boot(config, *arguments)  # type: ignore[arg-type]
        made.append(ref(guest))
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelGuest, "_boot", seen)
        with pytest.raises(MemoryError):
            host.guests.create("web", GuestConfig(4 * MIB, workload="idle"))
    assert made[0]() is None
    host.guests.create("web", GuestConfig(4 * MIB, workload="idle"))


def test_memory_that_a_guest_did_not_touch_yet_is_promised(tmp_path: Path) -> None:
    """The group here never shows that anything is used: only promises count."""
    size = 32 * MIB
    config = GuestConfig(size, workload="idle", fill=MemoryFill.ZERO)
    needed = size + size // 32 + OWN_BYTES
    guests = Guests(None, machine=in_a_cgroup(tmp_path, HEADROOM_BYTES + needed + size // 2))
    guests.create("one", config)
    with pytest.raises(LimitExceeded, match=r"cgroup .*memory\.limit_in_bytes"):
        guests.create("two", config)
    guests.delete("one")
    guests.create("two", config)
    guests.close()


class Broken:
    """An observer that fails whatever it is told."""

    def _fail(self, *_: object, **__: object) -> None:
        raise MemoryError

    cleaned = round_sent = verified = changed = _fail


def test_who_looks_on_cannot_stop_a_migration() -> None:
    """Least of all when it has handed its guest over; and the next one is told."""
    listening = Notes()
    progress = Progress("web-1", [Broken(), listening])
    way = (
        MigrationState.PRE_COPY, MigrationState.STOP_AND_COPY, MigrationState.VERIFYING,
        MigrationState.COMMITTING, MigrationState.COMPLETED,
    )  # fmt: skip
    for state in way:
        progress.advance(state)
    assert listening.states == [state.value for state in way]


def test_a_migration_that_could_not_begin_leaves_no_flow_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = Guests(None)
    guests.create("web", GuestConfig(4 * MIB, workload="idle"))
    closed: list[str] = []

    def connect(address: str, *_: object) -> GrpcTransport:
        transport = GrpcTransport(address)
        close = transport.close

        def told() -> None:
            closed.append(address)
            close()

        monkeypatch.setattr(transport, "close", told)
        return transport

    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(HostedMigration, "begin", none_left)
    migrations = Migrations(guests, Metrics(CollectorRegistry()), connect, 4, tmp_path)
    with pytest.raises(RuntimeError):
        migrations.start(asked("web", "flow"))
    assert closed == ["127.0.0.1:1"]
    opened = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.exists()]
    assert not [path for path in opened if tmp_path in path.parents]
    guests.delete("web")


def test_a_host_that_stops_holds_no_guest() -> None:
    """Also where its process goes on, as in a test or a notebook."""
    host = SourceHost(SourceSettings(listen="127.0.0.1:0"))
    with host.server:
        hosted = host.guests.create("web", GuestConfig(4 * MIB, workload="idle"))
        memory = hosted._present().memory
        assert memory.touched_bytes > 0
    assert memory.fd < 0
    assert hosted.memory_bytes == 0
