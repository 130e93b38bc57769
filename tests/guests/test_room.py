"""One room on every host: what arrived is migrated on, and comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from dest_host.receiver import Receiver
from pageferry.in_process import DirectTransport
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.errors import AlreadyExists, LimitExceeded
from paging_core.memory import GuestMemory
from source_host.migrations import Migrations
from source_host.watch.metrics import Metrics
from tests.dest_host.fake_guest import FakeFactory, FakeGuest, filled_memory
from tests.journey.hosts import until
from wire.hosting.guests.guests import Guests, Promised
from wire.hosting.guests.states import GuestState
from wire.memory_digest import digest_memory

N_FRAMES = 300
CONFIG = GuestConfig(N_FRAMES * 4096, workload="idle")


class Host:
    """Receives and sends, with one room for its guests."""

    def __init__(self, others: dict[str, Host]) -> None:
        self.guests = Guests()
        self.receiver = Receiver(factory=FakeFactory(), guests=self.guests)

        def connect(address: str, *_: Callable[..., object]) -> DirectTransport:
            return DirectTransport(others[address].receiver)

        self.migrations = Migrations(self.guests, Metrics(CollectorRegistry()), connect, 4)

    def migrate(self, guest_id: str, destination: str) -> pb.MigrationStatus:
        """Move it, running; how that ended."""
        request = pb.MigrateRequest(
            guest_id=guest_id,
            destination=destination,
            link_bits_per_s=10**9,
            warmup_ns=10**6,
            max_rounds=3,
            let_run=True,
        )
        entry = self.migrations.start(request)
        until(lambda: entry.is_settled)
        return entry.status()


def test_a_guest_that_arrived_is_migrated_on_and_comes_back() -> None:
    hosts: dict[str, Host] = {}
    hosts.update({name: Host(hosts) for name in "ABC"})
    hosts["A"].guests.add("vm", FakeGuest(filled_memory(N_FRAMES, seed=3)), CONFIG)
    twin = FakeGuest(filled_memory(N_FRAMES, seed=3))
    for here, there in (("A", "B"), ("B", "C"), ("C", "A"), ("A", "B")):
        before = hosts[here].guests.get("vm").view().accesses
        ended = hosts[here].migrate("vm", there)
        assert ended.state == pb.MIGRATION_STATE_COMPLETED, ended.error
        assert ended.verified
        left = hosts[here].guests.get("vm").view()
        assert left.state is GuestState.MOVED
        assert hosts[here].guests.memory_bytes == 0
        arrived = hosts[there].guests.get("vm")
        assert arrived.came_by == ended.migration_id
        view = arrived.view(with_digest=True)
        assert view.state is GuestState.PAUSED
        assert view.accesses > before
        twin.run_accesses(view.accesses - twin.position)
        assert view.memory_digest == digest_memory(twin.memory.frames)
        arrived.step(accesses=17)
        assert arrived.view().accesses == view.accesses + 17
    for host in hosts.values():
        host.receiver.close()
    twin.close()


def test_a_guest_is_not_taken_in_where_one_of_its_name_is() -> None:
    hosts: dict[str, Host] = {}
    hosts.update({name: Host(hosts) for name in "AB"})
    for host in hosts.values():
        host.guests.add("vm", FakeGuest(filled_memory(N_FRAMES, seed=3)), CONFIG)
    ended = hosts["A"].migrate("vm", "B")
    assert ended.error_status == "ALREADY_EXISTS"
    assert hosts["A"].guests.get("vm").state is GuestState.RUNNING  # it was let run, and goes on
    for host in hosts.values():
        host.receiver.close()


def test_what_is_on_its_way_here_has_its_name_and_its_memory() -> None:
    guests = Guests(max_memory_bytes=3 * CONFIG.memory_bytes)
    guests.arriving = lambda: [Promised("web", 2 * CONFIG.memory_bytes, 0)]
    with pytest.raises(AlreadyExists, match="'web' is on this host already"):
        guests.create("web", CONFIG)
    with pytest.raises(LimitExceeded, match="does not fit"):
        guests.create("db", GuestConfig(2 * CONFIG.memory_bytes, workload="idle"))
    assert guests.all() == []


def test_a_guest_that_crashes_while_nobody_looks_says_so() -> None:
    guests = Guests()
    guests.add("db", FakeGuest(GuestMemory(N_FRAMES), crash_at=50), CONFIG, start=True)
    until(lambda: guests.get("db").state is GuestState.CRASHED)
    assert "no free frame" in guests.get("db").view().message
    guests.close()
