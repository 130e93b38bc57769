"""A source refuses a twin that its machine has no room for, and the migration with it: by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig, MemoryFill
from paging_core.errors import LimitExceeded
from source_host.grpc_transport import GrpcTransport
from source_host.migrations import Migrations
from source_host.states import MigrationState
from source_host.watch.metrics import Metrics
from tests.dest_host.test_exhaustion import in_a_cgroup
from tests.journey.hosts import until
from tests.source_host.harness import GIGABIT
from wire.hosting.guests.guests import Guests
from wire.hosting.room import HEADROOM_BYTES

MIB = 2**20
SIZE = 32 * MIB
NEEDED = SIZE + MIB + 4 * MIB
"""Its memory, a thirty-second of it for its tables, and 4 MiB for what every guest has."""
FULL = GuestConfig(SIZE, workload="idle", fill=MemoryFill.RANDOM)
"""Next to all of its memory is touched as it boots, and promised no more."""
EMPTY = GuestConfig(SIZE, workload="idle", fill=MemoryFill.ZERO)
"""Most of it is still promised."""


def connected(address: str, *_: object) -> GrpcTransport:
    return GrpcTransport(address)


class Source:
    """Guests and migrations of a source host in a cgroup that never shows any use."""

    def __init__(self, folder: Path, config: GuestConfig) -> None:
        """With one guest, for which there is room."""
        self._folder = folder
        self.guests = Guests(None, machine=in_a_cgroup(folder, HEADROOM_BYTES + NEEDED))
        self.web = self.guests.create("web", config)
        metrics = Metrics(CollectorRegistry())
        self.migrations = Migrations(self.guests, metrics, connected, 4, folder)

    def have_room(self, room_bytes: int) -> None:
        """Of the cgroup's limit so much is for guests from now on; the rest is the host's own."""
        in_a_cgroup(self._folder, HEADROOM_BYTES + room_bytes)

    def migrate(self, **asked: Any) -> None:
        """To where nobody listens; waits for its end, if it begins."""
        request = pb.MigrateRequest(guest_id="web", destination="127.0.0.1:1", **asked)
        if request.clock != common_pb2.CLOCK_REAL:
            request.link_bits_per_s = GIGABIT
        entry = self.migrations.start(request)
        until(lambda: entry.is_settled)
        until(lambda: not entry._thread.is_alive())


def test_a_twin_takes_what_its_guest_takes(tmp_path: Path) -> None:
    source = Source(tmp_path, FULL)
    assert source.web.untouched_bytes < MIB
    source.have_room(NEEDED + source.web.untouched_bytes)
    source.migrate()  # it found nobody there, but it began
    assert [entry.state for entry in source.migrations.all()] == [MigrationState.FAILED]
    source.guests.close()


def test_a_byte_less_is_refused_and_the_guest_stays_as_it_was(tmp_path: Path) -> None:
    source = Source(tmp_path, FULL)
    source.have_room(NEEDED + source.web.untouched_bytes - 1)
    for _ in range(2):  # the first refusal keeps no hold of the guest
        with pytest.raises(LimitExceeded) as refused:
            source.migrate()
    line = str(refused.value)
    assert line.startswith("no room for the untracked twin of 'web'; --no-twin does without: ")
    assert "a guest of 32.0 MiB needs 37.0 MiB with its tables" in line
    assert source.migrations.all() == []
    source.guests.delete("web")  # which a guest that is being migrated is not


@pytest.mark.parametrize("asked", [{"no_twin": True}, {"clock": common_pb2.CLOCK_REAL}], ids=str)
def test_without_a_twin_there_is_room(tmp_path: Path, asked: dict[str, Any]) -> None:
    """On the real clock it would take the guest's processor, so there is none."""
    source = Source(tmp_path, FULL)
    source.have_room(0)
    source.migrate(**asked)
    assert len(source.migrations.all()) == 1
    source.guests.close()


def test_memory_that_guests_were_promised_is_not_given_to_a_twin(tmp_path: Path) -> None:
    """The guest itself has touched less than half of what it may touch."""
    source = Source(tmp_path, EMPTY)
    source.have_room(NEEDED + SIZE)
    source.migrate()
    source.have_room(NEEDED + SIZE // 2)
    with pytest.raises(LimitExceeded, match="untracked twin"):
        source.migrate()
    source.guests.close()
