"""A peer that wants more than it may: every limit, tried."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

import grpc
import pytest
import zstandard
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dest_host.host import DestinationHost
from dest_host.settings import DestinationSettings
from pageferry.v1 import common_pb2, destination_pb2, destination_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import (
    CALL_S,
    Destination,
    Source,
    fails_with,
    new_name,
    request,
    spec,
    start,
    until,
)
from tests.journey.relay import Hold, Relay
from tests.journey.tamper import seal
from wire.channel import connect
from wire.codec import TRANSFER
from wire.version import contract_message

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
ONE_MESSAGE = "/pageferry.v1.DestinationHost/GetIncoming"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
NOBODYS = destination_pb2.IncomingRequest(migration_id="nobody")


class SilentCall(Protocol):
    """A call that can be waited for."""

    def code(self) -> grpc.StatusCode:
        """How it ended."""


@pytest.fixture(scope="module")
def started() -> Iterator[Destination]:
    """A destination with small limits."""
    limits = ["--max-message", "1MiB", "--max-metadata", "4KiB", "--max-calls", "4",
              "--stream-idle", "2s", "--max-payload", "64KiB"]  # fmt: skip
    with Destination(start("dest_host", *limits)) as destination:
        yield destination


@pytest.fixture
def tight(started: Destination) -> Destination:
    """It, with room for a call: those of the test before may have left a moment ago."""
    until(lambda: answered(started) is grpc.StatusCode.NOT_FOUND)
    return started


def test_a_long_message(tight: Destination) -> None:
    for size, refused in ((2**19, False), (2**20 + 1, True)):
        long = destination_pb2.AbortRequest(migration_id="x", reason="y" * size)
        if refused:
            with fails_with(RESOURCE_EXHAUSTED) as failure:
                tight.stub.Abort(long, timeout=CALL_S)
            assert "larger" in failure.details
        else:
            tight.stub.Abort(long, timeout=CALL_S)


def test_long_headers(tight: Destination) -> None:
    with fails_with(grpc.StatusCode.NOT_FOUND):
        tight.stub.GetIncoming(NOBODYS, timeout=CALL_S, metadata=(("x", "y" * 1000),))
    with fails_with(RESOURCE_EXHAUSTED):
        tight.stub.GetIncoming(NOBODYS, timeout=CALL_S, metadata=(("x", "y" * 8000),))


@contextmanager
def silent_calls(channel: grpc.Channel, method: str, number: int) -> Iterator[list[SilentCall]]:
    """Calls on which nothing is said, not even that nothing will come."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(CALL_S)
        yield from ()

    call: Callable[..., SilentCall] = channel.stream_stream(method)
    try:
        calls = [call(nothing()) for _ in range(number)]
        yield calls  # and keep them: one that nobody holds is cancelled
    finally:
        over.set()


@pytest.mark.parametrize("method", [TRANSFER, ONE_MESSAGE, REFLECTION, CHECK, WATCH])
def test_calls_on_which_nothing_comes(tight: Destination, method: str) -> None:
    """More than there are threads: all are refused or ended, and others get through again."""
    with silent_calls(tight.channel, method, 40) as calls:
        assert {call.code() for call in calls} == {RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
        # Their places are free a moment after who called heard of the end.
        until(lambda: serves(tight.channel))
        until(lambda: answered(tight) is grpc.StatusCode.NOT_FOUND)


def answered(host: Destination) -> grpc.StatusCode:
    """The status of a call about a migration that nobody prepared."""
    with pytest.raises(grpc.RpcError) as caught:
        host.stub.GetIncoming(NOBODYS, timeout=CALL_S)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code()


def serves(channel: grpc.Channel) -> bool:
    """Whether a health check is answered, and well; not while there is no room for one."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is RESOURCE_EXHAUSTED:
            return False
        raise
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_health_while_all_calls_are_taken() -> None:
    settings = DestinationSettings(listen="127.0.0.1:0", max_calls=4)
    with (
        DestinationHost(settings) as host,
        connect(host.server.address) as channel,
        silent_calls(channel, TRANSFER, 4),
        silent_calls(channel, REFLECTION, 40),
        silent_calls(channel, WATCH, 4),
    ):
        stub = destination_pb2_grpc.DestinationHostStub(channel)

        def refused() -> bool:
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetIncoming(NOBODYS, timeout=CALL_S)
            assert isinstance(caught.value, grpc.Call)
            return "raise its --max-calls" in (caught.value.details() or "")

        until(refused)
        until(lambda: serves(channel))


def test_a_watch_of_health_takes_no_call(tight: Destination) -> None:
    """It may stay for as long as it likes, as load balancers do."""
    stub: Any = health_pb2_grpc.HealthStub(tight.channel)
    watches = []
    for _ in range(40):
        watches.append(stub.Watch(health_pb2.HealthCheckRequest()))
        assert next(watches[-1]).status == health_pb2.HealthCheckResponse.SERVING
    until(lambda: serves(tight.channel))
    for watch in watches:
        watch.cancel()


def test_a_call_of_one_message_that_brings_none(tight: Destination) -> None:
    for method in (ONE_MESSAGE, CHECK):
        with pytest.raises(grpc.RpcError) as caught:
            list(tight.channel.stream_stream(method)(iter(()), timeout=CALL_S))
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "takes one message" in (caught.value.details() or "")


def grown(frames: int) -> destination_pb2.PageBatch:
    """A few bytes that decompress to so many frames."""
    return seal(
        destination_pb2.PageBatch(
            sequence=0, round=1, run_first=[0], run_frames=[frames], payload_raw_bytes=frames << 12,
            run_kind=[destination_pb2.FRAME_KIND_DATA], end_of_round=True,
            compression=destination_pb2.COMPRESSION_ZSTD,
            payload=zstandard.compress(b"grow" * (frames << 10)),
        )
    )  # fmt: skip


def test_a_batch_that_grows(tight: Destination) -> None:
    name = new_name()
    offer = destination_pb2.PrepareRequest(
        version=contract_message(), migration_id=name, guest=spec(name), proof_key=bytes(32)
    )
    assert tight.stub.Prepare(offer, timeout=CALL_S).max_payload_bytes == 64 << 10

    def send(frames: int) -> list[destination_pb2.TransferReply]:
        hello = destination_pb2.TransferHello(migration_id=name)
        messages = [
            destination_pb2.TransferMessage(hello=hello),
            destination_pb2.TransferMessage(batch=grown(frames)),
        ]
        return list(tight.stub.Transfer(iter(messages), timeout=CALL_S))

    with fails_with(grpc.StatusCode.INVALID_ARGUMENT) as failure:
        send(17)
    assert "64.0 KiB in one" in failure.details
    assert send(16)


def test_watchers_who_leave_hold_no_call() -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(Relay("127.0.0.1:1"))
        hold = relay.before["Prepare"] = stack.enter_context(Hold())
        source = stack.enter_context(Source(start("source_host", "--max-calls", "4")))
        name = source.boot(spec(new_name()))
        migration = source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        endless = pb.WatchRequest(migration_id=migration, period_ms=2**32 - 1)
        watching = [source.stub.WatchMigration(endless, timeout=CALL_S) for _ in range(4)]
        for each in watching:
            next(each)
        for each in watching:
            each.cancel()

        def answers() -> bool:
            with suppress(grpc.RpcError):
                return source.guest(name).guest_id == name
            return False

        until(answers)
        assert source.status(migration).state == pb.MIGRATION_STATE_SETUP  # it is still going on


def test_guests_at_the_source() -> None:
    limits = ["--max-guest-memory", "8MiB", "--max-total-memory", "16MiB", "--max-migrations", "1"]
    with ExitStack() as stack:
        source = stack.enter_context(Source(start("source_host", *limits)))
        with fails_with(RESOURCE_EXHAUSTED) as failure:
            larger = common_pb2.GuestSpec(guest_id="large", memory_bytes=12 << 20, workload="idle")
            source.stub.CreateGuest(larger, timeout=CALL_S)
        assert "--max-guest-memory" in failure.details
        guests = [source.boot(spec(new_name())) for _ in range(2)]
        with fails_with(RESOURCE_EXHAUSTED) as failure:
            source.boot(spec(new_name()))
        assert "--max-total-memory" in failure.details
        _one_migration_at_a_time(source, guests, stack)


def _one_migration_at_a_time(source: Source, guests: list[str], stack: ExitStack) -> None:
    destination = stack.enter_context(Destination(start("dest_host")))
    endless = {"policy": pb.POLICY_XEN_2009, "clock": common_pb2.CLOCK_REAL, "max_rounds": 1000}
    first = source.migrate(guests[0], destination.address, **endless)
    with fails_with(RESOURCE_EXHAUSTED) as failure:
        source.stub.Migrate(request(guests[1], destination.address), timeout=CALL_S)
    assert "--max-migrations" in failure.details
    source.cancel(first)
    assert source.follow(first).state == pb.MIGRATION_STATE_CANCELLED
    again = source.migrate(guests[1], destination.address)
    assert source.follow(again).state == pb.MIGRATION_STATE_COMPLETED
