"""However a guest's stay ends, its memory and its files go with it: counted at the processes.

The kernel's own figures are the truth here, not what the hosts say that they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import CALL_S, MIB, Pair, asking, fails_with, new_name, until
from tests.journey.relay import Hold, Relay, cut
from tests.journey.test_traces import SQLITE
from wire.hosting.launch import HostProcess

GUEST_MIB = 8
TIMES = 4
"""What is kept once may be the last of its kind; what is kept each time adds up."""
SPARE_FILES = 2
"""A connection that is just being closed."""
LEFT = ["--max-total-memory", f"{2 * GUEST_MIB}MiB"]
"""Room for two guests: memory that is counted as given back and is not would be promised twice."""


class Held:
    """What a process holds, as the kernel counts it."""

    def __init__(self, host: HostProcess) -> None:
        self._proc = Path(f"/proc/{host.process.pid}")

    def shared_kib(self) -> int:
        """Guest memory that it has mapped."""
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssShmem"))

    def files(self) -> list[str]:
        """What each of its file descriptors is."""
        found = []
        for each in (self._proc / "fd").iterdir():
            with suppress(OSError):  # closed in between
                found.append(str(each.readlink()))
        return found

    def memories(self) -> int:
        """Memory files of guests, mapped or not."""
        return sum("memfd:pageferry" in name for name in self.files())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    flows = tmp_path_factory.mktemp("flows")
    with Pair([*LEFT, "--flow-dir", str(flows)], LEFT) as pair:
        yield pair


def boot(hosts: Pair, *, running: bool = True, **more: object) -> str:
    fields: dict[str, object] = {
        "memory_bytes": GUEST_MIB * MIB,
        "workload": "hotcold:wss=2MiB",
        "fill": common_pb2.MEMORY_FILL_RANDOM,
    }
    guest = common_pb2.GuestSpec(guest_id=new_name(), **(fields | more))  # type: ignore[arg-type]
    return hosts.source.boot(guest, running=running)


def ended(hosts: Pair, name: str, address: str, **more: object) -> pb.MigrationStatus:
    return hosts.source.follow(hosts.source.migrate(name, address, **more))


def moves(hosts: Pair) -> None:
    name = boot(hosts)
    assert ended(hosts, name, hosts.destination.address).state == pb.MIGRATION_STATE_COMPLETED


def moves_running(hosts: Pair) -> None:
    name = boot(hosts)
    real = {"clock": common_pb2.CLOCK_REAL, "flow_directory": name}
    status = ended(hosts, name, hosts.destination.address, **real)
    assert status.state == pb.MIGRATION_STATE_COMPLETED


def boot_fails(hosts: Pair) -> None:
    """Before its set-up runs: by then it has memory, and its trace is open."""
    with fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED) as failure:
        boot(hosts, memory_bytes=1 * MIB, workload="", trace=str(SQLITE))
    assert "with its page tables" in failure.details


def nobody_listens(hosts: Pair) -> None:
    assert ended(hosts, boot(hosts), "127.0.0.1:1").state == pb.MIGRATION_STATE_FAILED


def prepare_is_refused(hosts: Pair) -> None:
    """There is a guest of that name."""
    name = boot(hosts)
    moved = ended(hosts, name, hosts.destination.address)
    assert moved.state == pb.MIGRATION_STATE_COMPLETED
    hosts.source.delete(name)
    hosts.source.boot(
        common_pb2.GuestSpec(guest_id=name, memory_bytes=GUEST_MIB * MIB, workload="idle")
    )
    again = ended(hosts, name, hosts.destination.address)
    assert again.state == pb.MIGRATION_STATE_FAILED, again


def stream_is_cut(hosts: Pair) -> None:
    def lose(batch: object) -> None:
        raise AssertionError(batch)

    with Relay(hosts.destination.address) as relay:
        relay.on_batch = lose
        flow = new_name()
        status = ended(hosts, boot(hosts), relay.address, flow_directory=flow)
        assert status.state == pb.MIGRATION_STATE_FAILED


def commit_is_lost(hosts: Pair) -> None:
    """In doubt, and then known."""
    with Relay(hosts.destination.address) as relay:
        relay.before["Commit"] = cut
        status = ended(hosts, boot(hosts), relay.address)
        assert status.state == pb.MIGRATION_STATE_FAILED


def is_cancelled(hosts: Pair) -> None:
    with Relay(hosts.destination.address) as relay, Hold() as hold:
        relay.on_batch = hold.in_round(1)
        migration = hosts.source.migrate(boot(hosts), relay.address)
        assert hold.reached.wait(CALL_S)
        hosts.source.cancel(migration)
        hold.let_go()
        assert hosts.source.follow(migration).state == pb.MIGRATION_STATE_CANCELLED


def crashes(hosts: Pair) -> None:
    """Its own kernel finds no memory; at the source, and where it arrived."""
    for host in (hosts.source, hosts.destination):
        workload = "churn:wss=1MiB,region=1MiB,children=8,fork_every=500"
        name = boot(hosts, running=False, memory_bytes=4 * MIB, workload=workload)
        if host is hosts.destination:
            moved = ended(hosts, name, hosts.destination.address, warmup_ns=0)
            assert moved.state == pb.MIGRATION_STATE_COMPLETED
        with fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED):
            host.step(name, 400_000)
        crashed = host.stub.GetGuest(asking(name), timeout=CALL_S)
        assert crashed.state == common_pb2.GUEST_STATE_CRASHED


ENDS = [
    moves, moves_running, boot_fails, nobody_listens, prepare_is_refused, stream_is_cut,
    commit_is_lost, is_cancelled, crashes,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_guest_leaves_nothing_behind(hosts: Pair, end: Callable[[Pair], None]) -> None:
    held = [Held(hosts.source.process), Held(hosts.destination.process)]
    files = [len(one.files()) for one in held]
    for _ in range(TIMES):
        end(hosts)
        hosts.forget_guests()
        for one in held:
            assert one.memories() == 0
            assert one.shared_kib() == 0
    for one, before in zip(held, files, strict=True):
        until(lambda one=one, before=before: len(one.files()) <= before + SPARE_FILES)  # type: ignore[misc]


def test_a_guest_that_moved_holds_nothing_where_it_was(hosts: Pair) -> None:
    """Before it is deleted: the host that it left has room for another."""
    held = Held(hosts.source.process)
    for _ in range(TIMES):
        moves(hosts)
        assert held.memories() == 0
        assert held.shared_kib() == 0
        hosts.forget_guests()


def test_a_migration_that_is_remembered_holds_no_file(hosts: Pair) -> None:
    """A trace that is replayed, and a flow that was cut short, are files."""
    held = Held(hosts.source.process)
    boot_fails(hosts)
    stream_is_cut(hosts)
    hosts.forget_guests()
    assert not [name for name in held.files() if name.endswith((".parquet", ".partial"))]
