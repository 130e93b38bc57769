"""A peer that wants more than it may: every limit, tried."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import grpc
import pytest
import zstandard

from pageferry.v1 import common_pb2, destination_pb2
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
from wire.codec import page_stream
from wire.version import contract_message

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def tight() -> Iterator[Destination]:
    """A destination with small limits."""
    limits = ["--max-message", "1MiB", "--max-metadata", "4KiB", "--max-calls", "4",
              "--stream-idle", "2s", "--max-payload", "64KiB"]  # fmt: skip
    with Destination(start("dest_host", *limits)) as destination:
        yield destination


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
    asked = destination_pb2.IncomingRequest(migration_id="nobody")
    with fails_with(grpc.StatusCode.NOT_FOUND):
        tight.stub.GetIncoming(asked, timeout=CALL_S, metadata=(("x", "y" * 1000),))
    with fails_with(RESOURCE_EXHAUSTED):
        tight.stub.GetIncoming(asked, timeout=CALL_S, metadata=(("x", "y" * 8000),))


def test_a_stream_on_which_nothing_comes(tight: Destination) -> None:
    silent = threading.Event()

    def nothing() -> Iterator[bytes]:
        silent.wait(CALL_S)
        yield from ()

    try:
        with pytest.raises(grpc.RpcError) as caught:
            list(page_stream(tight.channel)(nothing()))
    finally:
        silent.set()
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


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
        version=contract_message(), migration_id=name, guest=spec(name)
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


def test_many_calls(tight: Destination) -> None:
    """Streams that hold every thread: more are refused, and it recovers when they end."""
    silent = threading.Event()

    def nothing() -> Iterator[destination_pb2.TransferMessage]:
        silent.wait(CALL_S)
        yield from ()

    streams = [tight.stub.Transfer(nothing()) for _ in range(12)]
    try:
        codes = [stream.code() for stream in streams]
    finally:
        silent.set()
    # Some held the threads until they were ended for their silence, the others found none free.
    assert set(codes) == {RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
    with fails_with(grpc.StatusCode.NOT_FOUND):
        asked = destination_pb2.IncomingRequest(migration_id="nobody")
        tight.stub.GetIncoming(asked, timeout=CALL_S)


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
