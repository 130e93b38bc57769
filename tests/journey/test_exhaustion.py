"""Hosts that run out of file descriptors, addresses, threads or disk in the middle of it.

Each migration ends in one of two ways: completed, and the guest runs where it went; or failed with
a line, and the guest is at its source. The host lives, and works again when there is more.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import CALL_S, MIB, Destination, Pair, Source, asking, new_name
from wire.hosting.launch import HostProcess

PIDS = Path("/sys/fs/cgroup/pids")
Host = Source | Destination


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flows")


@pytest.fixture(scope="module")
def hosts(flows: Path) -> Iterator[Pair]:
    """Two hosts of their own, for what is done to them would disturb others.

    All the time no line of their logs can be written: the disk is full.
    """
    with (
        Path("/dev/full").open("wb") as full,
        Pair(["--flow-dir", str(flows), "--metrics-port", "0"], logs=(full, full)) as pair,
    ):
        assert outcome(pair) == "completed"  # whatever is loaded once is loaded now
        pair.forget_guests()
        yield pair


def outcome(hosts: Pair, **more: object) -> str:
    """Of a new guest's migration: ``completed``, or the line that says why not."""
    name = new_name()
    said = refusal(lambda: migrate(hosts, name, more), grpc.StatusCode.RESOURCE_EXHAUSTED)
    hosts_alive(hosts)
    assert "bug" not in said
    assert "\n" not in said
    here, there = state(hosts.source, name), state(hosts.destination, name)
    if said == "completed":
        assert (here, there) == (common_pb2.GUEST_STATE_MOVED, common_pb2.GUEST_STATE_RUNNING)
    else:
        assert there is None
        assert here in (None, common_pb2.GUEST_STATE_PAUSED, common_pb2.GUEST_STATE_RUNNING)
    return said


def migrate(hosts: Pair, name: str, more: dict[str, object]) -> str:
    hosts.source.boot(
        common_pb2.GuestSpec(guest_id=name, memory_bytes=8 * MIB, workload="hotcold:wss=4MiB")
    )
    real = {"clock": common_pb2.CLOCK_REAL, "warmup_ns": 0} | more
    status = hosts.source.follow(hosts.source.migrate(name, hosts.destination.address, **real))
    if status.state == pb.MIGRATION_STATE_COMPLETED:
        return "completed"
    assert status.error
    return status.error


def refusal(call: Callable[[], str], code: grpc.StatusCode) -> str:
    """What a call says, or the line with which it is refused; with this status."""
    try:
        return call()
    except grpc.RpcError as error:
        refused = error
    assert isinstance(refused, grpc.Call)
    assert refused.code() is code, refused
    return refused.details() or "no line"


def state(host: Host, name: str) -> int | None:
    """Of a guest; None where there is none of that name."""
    found: list[int] = []

    def look() -> str:
        found.append(host.stub.GetGuest(asking(name), timeout=CALL_S).state)
        return ""

    refusal(look, grpc.StatusCode.NOT_FOUND)
    return found[0] if found else None


def hosts_alive(hosts: Pair) -> None:
    assert not hosts.source.process.ended
    assert not hosts.destination.process.ended


def side(hosts: Pair, name: str) -> HostProcess:
    return hosts.source.process if name == "source" else hosts.destination.process


@contextmanager
def limited(host: HostProcess, what: int, most: int) -> Iterator[None]:
    """A host of which no more may take than this."""
    pid = host.process.pid
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def levels(
    hosts: Pair, squeezed: Callable[[int], str], tight: int, ample: int, step: int = 1
) -> list[str]:
    """Outcomes from barely enough to ample; the last completes, and so does one without a limit."""
    outcomes = []
    for more in range(tight, ample + 1, step):
        outcomes.append(squeezed(more))
        hosts.forget_guests()
    assert outcomes[-1] == "completed"
    assert outcome(hosts) == "completed"
    hosts.forget_guests()
    return outcomes


def files(host: HostProcess, more: int) -> int:
    """The limit with which a host can open so many more files."""
    taken = {int(each.name) for each in Path(f"/proc/{host.process.pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    return next(itertools.islice(free, more, None))


# A destination without any cannot even take the connection: its source waits 20 s for that.
@pytest.mark.parametrize(("which", "fewest"), [("source", 0), ("destination", 1)])
def test_file_descriptors(hosts: Pair, which: str, fewest: int) -> None:
    host = side(hosts, which)

    def squeezed(more: int) -> str:
        with limited(host, resource.RLIMIT_NOFILE, files(host, more)):
            return outcome(hosts)

    outcomes = levels(hosts, squeezed, fewest, 8)
    short = [said for said in outcomes if said != "completed"]
    assert short
    assert all("file descriptor" in said and "ulimit -n" in said for said in short)


@pytest.mark.parametrize("which", ["source", "destination"])
def test_addresses(hosts: Pair, which: str) -> None:
    host = side(hosts, which)

    def squeezed(more_mib: int) -> str:
        lines = Path(f"/proc/{host.process.pid}/status").read_text().splitlines()
        taken_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmSize"))
        with limited(host, resource.RLIMIT_AS, (taken_kib << 10) + more_mib * MIB):
            return outcome(hosts)

    outcomes = levels(hosts, squeezed, 0, 480, 15)
    assert "guest of 8.0 MiB" in outcomes[0] or "memory" in outcomes[0]


@pytest.mark.skipif(
    not os.access(PIDS / "cgroup.procs", os.W_OK), reason="makes a cgroup of pids, as root"
)
@pytest.mark.parametrize("which", ["source", "destination"])
def test_threads(hosts: Pair, which: str) -> None:
    group = PIDS / f"pageferry-test-{os.getpid()}"
    host = side(hosts, which)

    def squeezed(more: int) -> str:
        current = int((group / "pids.current").read_text())
        (group / "pids.max").write_text(str(current + more))
        try:
            return outcome(hosts)
        finally:
            (group / "pids.max").write_text("max")

    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(host.process.pid))
        outcomes = levels(hosts, squeezed, 0, 32, 4)
        assert "ran out of threads" in outcomes[0]
        assert "ulimit -u" in outcomes[0]
    finally:
        (PIDS / "cgroup.procs").write_text(str(host.process.pid))
        with suppress(OSError):
            group.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, as root")
def test_a_disk_for_the_flow(hosts: Pair, flows: Path) -> None:
    small = flows / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", small], check=True)
    try:
        (small / "full").write_bytes(bytes(8 << 10))
        said = outcome(hosts, flow_directory="small/flow")
        # What is held back is written when the guest has moved: that was no reason to lose it.
        assert said == "completed" or ("the flow" in said and "make room" in said)
        assert not (small / "flow" / "flow.json").exists()
    finally:
        subprocess.run(["umount", small], check=True)  # nothing there is still open
    hosts.forget_guests()
    assert outcome(hosts, flow_directory=new_name()) == "completed"
    hosts.forget_guests()


def test_a_metrics_page_without_a_file_descriptor_waits_for_one(hosts: Pair) -> None:
    """And takes no processor meanwhile: the connection stays in the kernel's queue."""
    host = hosts.source.process
    assert host.ready.metrics is not None
    address, _, port = host.ready.metrics.rpartition(":")
    with limited(host, resource.RLIMIT_NOFILE, files(host, 0)):
        scrape = HTTPConnection(address, int(port), timeout=CALL_S)
        scrape.request("GET", "/metrics")
        began_s = processor_s(host)
        time.sleep(2)
        assert processor_s(host) - began_s < 0.1  # a loop would take all that it gets
    assert scrape.getresponse().status == 200
    scrape.close()


def processor_s(host: HostProcess) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{host.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


MEMORY = Path("/sys/fs/cgroup/memory")


@pytest.mark.skipif(
    not os.access(MEMORY / "cgroup.procs", os.W_OK), reason="makes a cgroup of memory, as root"
)
def test_arrivals_do_not_have_a_host_killed_with_the_guests_that_it_has() -> None:
    """It is moved into a cgroup while it serves: what it was told at its start does not hold."""
    group = MEMORY / f"pageferry-test-{os.getpid()}"
    with Pair() as hosts:
        group.mkdir()
        try:
            (group / "memory.limit_in_bytes").write_text(str(360 * MIB))
            (group / "cgroup.procs").write_text(str(hosts.destination.process.process.pid))
            said = [arrival(hosts, 48 * MIB) for _ in range(6)]
            assert said[:3] == ["completed"] * 3
            assert str(group) in said[-1]
            assert "raise its memory.limit_in_bytes" in said[-1]
            assert str(group) in arrival(hosts, 1024 * MIB)
            hosts_alive(hosts)
        finally:
            hosts.close()
            group.rmdir()


def arrival(hosts: Pair, memory_bytes: int) -> str:
    """Of a guest with nothing in its memory, which is nothing at the source."""
    guest = common_pb2.GuestSpec(
        guest_id=new_name(),
        memory_bytes=memory_bytes,
        workload="idle",
        fill=common_pb2.MEMORY_FILL_ZERO,
    )
    name = hosts.source.boot(guest)
    status = hosts.source.follow(hosts.source.migrate(name, hosts.destination.address))
    return status.error or "completed"
