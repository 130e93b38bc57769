"""Two hosts in processes of their own, seen through the contract alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import IO, Any, Self

import grpc
import pytest

from pageferry.v1 import common_pb2, destination_pb2_grpc, source_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from wire.channel import connect
from wire.hosting.launch import HostProcess

MIB = 2**20
MEMORY_BYTES = 8 * MIB
CALL_S = 60
DEADLINE_S = 120

BUSY = "hotcold:wss=4MiB,write_rate=4M"
CHURN = "churn:wss=1MiB,region=256KiB,fork_every=2000,children=3,write_rate=2M"

_names = itertools.count(1)


def until(condition: Callable[[], bool]) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def start(
    module: str, *arguments: str, listen: str = "127.0.0.1:0", log: IO[bytes] | None = None
) -> HostProcess:
    """A host that is still starting; `wait_ready` waits."""
    if module == "source_host" and "--drain" not in arguments:
        arguments = (*arguments, "--drain", "0s")  # a test that ends has nothing to wait for
    return HostProcess(module, arguments, listen=listen, log=log, wait=False)


def new_name(what: str = "guest") -> str:
    """One that no other test uses."""
    return f"{what}-{next(_names)}"


def spec(guest_id: str, workload: str = BUSY, **more: Any) -> common_pb2.GuestSpec:
    """A small guest."""
    return common_pb2.GuestSpec(
        guest_id=guest_id, memory_bytes=MEMORY_BYTES, workload=workload, seed=11, **more
    )


def request(guest_id: str, destination: str, **more: Any) -> pb.MigrateRequest:
    """A migration of a few rounds on the virtual clock, unless told otherwise."""
    fields: dict[str, Any] = {
        "link_bits_per_s": 4 * 10**9,
        "latency_ns": 20_000,
        "warmup_ns": 2_000_000,
        "max_rounds": 4,
        "zstd_level": 0,
    }
    return pb.MigrateRequest(guest_id=guest_id, destination=destination, **fields | more)


def fails_with(code: grpc.StatusCode) -> _Fails:
    """Around a call that has to end with this status; `.details` tells the message."""
    return _Fails(code)


class _Fails:
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code
        self.details = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            pytest.fail(f"it was not refused with {self._code}")
        if not isinstance(error, grpc.RpcError):
            return False
        assert isinstance(error, grpc.Call)
        assert error.code() is self._code, f"{error.code()}: {error.details()}"
        self.details = error.details() or ""
        assert self.details
        assert "\n" not in self.details
        return True


class _Closing:
    """A context manager that closes itself."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Destination(_Closing):
    """A destination host and its stub. Also a context manager."""

    def __init__(self, process: HostProcess) -> None:
        process.wait_ready()
        self.process = process
        self.address = process.ready.address
        self.channel = connect(self.address)
        self.stub = destination_pb2_grpc.DestinationHostStub(self.channel)

    def guest(self, guest_id: str) -> common_pb2.GuestStatus:
        """A guest that was taken over, with its digests."""
        asked = common_pb2.GuestRequest(guest_id=guest_id, with_digest=True)
        return self.stub.GetGuest(asked, timeout=CALL_S)

    def assert_never_had(self, guest_id: str) -> None:
        """It took no such guest over."""
        with fails_with(grpc.StatusCode.NOT_FOUND):
            self.guest(guest_id)

    def step(self, guest_id: str, accesses: int) -> common_pb2.GuestStatus:
        """Run a paused guest, then digest it."""
        return self.stub.StepGuest(_step(guest_id, accesses), timeout=CALL_S)

    def delete(self, guest_id: str) -> None:
        self.stub.DeleteGuest(asking(guest_id), timeout=CALL_S)

    def close(self) -> None:
        self.channel.close()
        self.process.stop()

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.process.process.kill()
        self.process.process.wait()


class Source(_Closing):
    """A source host and its stub. Also a context manager."""

    def __init__(self, process: HostProcess) -> None:
        process.wait_ready()
        self.process = process
        self.address = process.ready.address
        self.channel = connect(self.address)
        self.stub = source_pb2_grpc.SourceHostStub(self.channel)
        self.booted: list[str] = []
        self.to_run: set[str] = set()

    def boot(self, guest: common_pb2.GuestSpec, *, running: bool = True) -> str:
        """A guest that is paused, and runs from its migration on; its name."""
        self.stub.CreateGuest(guest, timeout=CALL_S)
        self.booted.append(guest.guest_id)
        if running:
            self.to_run.add(guest.guest_id)
        return guest.guest_id

    def guest(self, guest_id: str) -> common_pb2.GuestStatus:
        return self.stub.GetGuest(asking(guest_id), timeout=CALL_S)

    def step(self, guest_id: str, accesses: int) -> common_pb2.GuestStatus:
        """Run a paused guest, then digest it."""
        return self.stub.StepGuest(_step(guest_id, accesses), timeout=CALL_S)

    def migrate(self, guest_id: str, destination: str, **more: Any) -> str:
        """Begin a migration; its name."""
        more.setdefault("let_run", guest_id in self.to_run)
        begun = self.stub.Migrate(request(guest_id, destination, **more), timeout=CALL_S)
        return begun.migration_id

    def watch(self, migration_id: str) -> Iterator[pb.MigrationStatus]:
        """Its pictures, until it is settled."""
        asked = pb.WatchRequest(migration_id=migration_id, period_ms=20)
        yield from self.stub.WatchMigration(asked, timeout=DEADLINE_S)

    def follow(self, migration_id: str) -> pb.MigrationStatus:
        """How it ended."""
        (*_, last) = self.watch(migration_id)
        return last

    def status(self, migration_id: str) -> pb.MigrationStatus:
        asked = pb.MigrationRequest(migration_id=migration_id)
        return self.stub.GetMigration(asked, timeout=CALL_S)

    def cancel(self, migration_id: str) -> pb.MigrationStatus:
        asked = pb.MigrationRequest(migration_id=migration_id)
        return self.stub.CancelMigration(asked, timeout=CALL_S)

    def resolve(
        self,
        migration_id: str,
        resolution: pb.Resolution.ValueType = pb.RESOLUTION_UNSPECIFIED,
    ) -> pb.MigrationStatus:
        asked = pb.MigrationRequest(migration_id=migration_id, resolution=resolution)
        return self.stub.ResolveMigration(asked, timeout=CALL_S)

    def delete(self, guest_id: str) -> None:
        self.stub.DeleteGuest(asking(guest_id), timeout=CALL_S)

    def twin_at(self, guest: common_pb2.GuestSpec, accesses: int) -> common_pb2.GuestStatus:
        """A guest like that one which never moved, at that place, with its digests."""
        twin = common_pb2.GuestSpec()
        twin.CopyFrom(guest)
        twin.guest_id = new_name("twin")
        self.boot(twin, running=False)
        return self.step(twin.guest_id, accesses)

    def close(self) -> None:
        self.channel.close()
        self.process.stop()


def asking(guest_id: str) -> common_pb2.GuestRequest:
    """For a guest by its name."""
    return common_pb2.GuestRequest(guest_id=guest_id)


def _step(guest_id: str, accesses: int) -> common_pb2.StepGuestRequest:
    return common_pb2.StepGuestRequest(guest_id=guest_id, accesses=accesses, with_digest=True)


class Pair(_Closing):
    """A source and a destination. Also a context manager.

    Attributes:
        source: where guests boot.
        destination: where they go.
    """

    def __init__(
        self,
        source: Sequence[str] = (),
        destination: Sequence[str] = (),
        logs: tuple[IO[bytes] | None, IO[bytes] | None] = (None, None),
    ) -> None:
        """Start both at the same time, with these options of ``serve``."""
        with ExitStack() as stack:
            processes = [
                start("source_host", *source, log=logs[0]),
                start("dest_host", *destination, log=logs[1]),
            ]
            for process in processes:
                stack.callback(process.stop)
            self.source = Source(processes[0])
            self.destination = Destination(processes[1])
            stack.pop_all()

    def forget_guests(self) -> None:
        """Delete on both hosts what was booted here; they would fill this machine's memory."""
        for name in self.source.booted:
            for host in (self.source, self.destination):
                with suppress(grpc.RpcError):
                    host.delete(name)
        self.source.booted.clear()

    def close(self) -> None:
        self.source.close()
        self.destination.close()


def assert_goes_on(source: Source, guest: common_pb2.GuestSpec) -> None:
    """The guest is here, as if nothing had happened to it: it equals a twin, and runs on so."""
    status = source.guest(guest.guest_id)
    assert status.state == common_pb2.GUEST_STATE_RUNNING, status
    status = source.stub.PauseGuest(asking(guest.guest_id), timeout=CALL_S)
    after = source.step(guest.guest_id, 5000)
    assert after.accesses == status.accesses + 5000
    twin = source.twin_at(guest, after.accesses)
    assert_same(after, twin)
    for name in (guest.guest_id, twin.guest_id):
        source.delete(name)


def assert_same(one: common_pb2.GuestStatus, other: common_pb2.GuestStatus) -> None:
    """Same place, same memory, same registers and address spaces."""
    assert one.accesses == other.accesses
    assert one.memory_digest != 0
    assert one.memory_digest == other.memory_digest
    assert one.state_digest == other.state_digest
