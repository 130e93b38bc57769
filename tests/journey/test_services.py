"""What an operator sees of both hosts: health, reflection, logs, options, and how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from pageferry.v1.destination_pb2 import INCOMING_STATE_ABORTED, IncomingRequest, PageBatch
from paging_core.errors import HostUnreachable
from tests.journey.hosts import (
    CALL_S,
    Destination,
    Pair,
    Source,
    assert_goes_on,
    fails_with,
    new_name,
    spec,
    start,
    until,
)
from tests.journey.metrics import scrape
from tests.journey.relay import Hold, Relay
from wire.hosting.launch import HostProcess

SERVICES = {
    "source_host": "pageferry.v1.SourceHost",
    "dest_host": "pageferry.v1.DestinationHost",
}


@pytest.fixture
def expendable_source() -> Iterator[Source]:
    """A source that a test may end."""
    with Source(start("source_host")) as source:
        yield source


def channel_to(pair: Pair, module: str) -> grpc.Channel:
    return pair.source.channel if module == "source_host" else pair.destination.channel


def health(channel: grpc.Channel, service: str) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S).status


@pytest.mark.parametrize("module", SERVICES)
def test_both_hosts_are_healthy_as_a_whole_and_by_service(pair: Pair, module: str) -> None:
    for service in ("", SERVICES[module]):
        status = health(channel_to(pair, module), service)
        assert status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("module", SERVICES)
def test_reflection_describes_the_whole_contract(pair: Pair, module: str) -> None:
    """As grpcurl uses it: list the services, then ask for the file that defines one."""
    service = SERVICES[module]
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel_to(pair, module))
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=service),
    ]
    listed, described = stub.ServerReflectionInfo(iter(asked), timeout=CALL_S)
    assert service in {one.name for one in listed.list_services_response.service}
    files = [
        FileDescriptorProto.FromString(data)
        for data in described.file_descriptor_response.file_descriptor_proto
    ]
    (methods,) = (
        {method.name for method in one.method}
        for file in files
        for one in file.service
        if f"{file.package}.{one.name}" == service
    )
    assert {"GetGuest", "StepGuest"} < methods
    assert ("WatchMigration" if module == "source_host" else "Transfer") in methods


def lines(log: Path) -> list[dict[str, Any]]:
    """Every line of a log: each is one JSON object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_logs_are_json_and_tell_the_migration(pair: Pair, log_files: tuple[Path, Path]) -> None:
    name = pair.source.boot(spec(new_name()))
    migration = pair.source.migrate(name, pair.destination.address)
    done = pair.source.follow(migration)
    until(lambda: any(line.get("migration_id") == migration and line.get("state") == "completed"
                      for line in lines(log_files[0])))  # fmt: skip
    told = [line for line in lines(log_files[0]) if line.get("migration_id") == migration]
    assert [line["round"] for line in told if line["event"] == "round sent"] == [
        stats.round for stats in done.rounds
    ]
    assert [line["state"] for line in told if line["event"] == "migration"] == [
        "pre_copy", "stop_and_copy", "verifying", "committing", "completed",
    ]  # fmt: skip
    there = [line for line in lines(log_files[1]) if line.get("migration") == migration]
    assert [line["event"] for line in there] == ["prepared", "committed"]
    for line in (*told, *there):
        assert {"event", "level", "timestamp", "host"} <= line.keys()
        assert line["timestamp"].endswith("Z")
    assert {line["host"] for line in told} == {"source"}
    assert {line["host"] for line in there} == {"dest-host"}


def test_a_port_in_use_ends_the_host_with_one_line(pair: Pair) -> None:
    address = pair.source.address
    with pytest.raises(HostUnreachable, match=f"status 1: error: {address} is in use"):
        HostProcess("dest_host", listen=address)


def test_a_metrics_port_in_use_ends_the_host_with_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(HostUnreachable, match=f"error: 127.0.0.1:{port} is in use"):
            HostProcess("dest_host", ["--metrics-port", port])


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("dest_host", ["--max-guest-memory", "1000"], "not a positive multiple"),
        ("dest_host", ["--max-payload", "1KiB"], "--max-payload"),
        ("dest_host", ["--log-level", "loud"], "'loud' is not one of"),
        ("source_host", ["--max-migrations", "0"], "0 is not in the range"),
        ("source_host", ["--surplus"], "No such option"),
    ],
)
def test_an_option_that_cannot_be(module: str, arguments: list[str], says: str) -> None:
    with pytest.raises(HostUnreachable, match="status 2") as caught:
        HostProcess(module, arguments)
    assert says in str(caught.value)


def test_options_from_the_environment_are_overruled_by_flags(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEST_HOST_MAX_GUEST_MEMORY", "4MiB")
    monkeypatch.setenv("DEST_HOST_MAX_INCOMING", "9")
    monkeypatch.setenv("DEST_HOST_LOG_LEVEL", "warning")
    log = tmp_path / "log"
    guest = spec(new_name())
    with (
        log.open("wb") as file,
        Destination(start("dest_host", "--log-level", "error", log=file)) as destination,
    ):
        migration = pair.source.migrate(pair.source.boot(guest), destination.address)
        status = pair.source.follow(migration)
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert status.error_status == "RESOURCE_EXHAUSTED"
    assert "8.0 MiB is larger than the 4.0 MiB" in status.error
    assert_goes_on(pair.source, guest)
    assert log.read_text() == ""


def test_a_destination_that_stops_gives_up_what_is_under_way(pair: Pair, tmp_path: Path) -> None:
    log = tmp_path / "log"
    guest = spec(new_name())
    with (
        log.open("wb") as file,
        Destination(start("dest_host", log=file)) as destination,
        Relay(destination.address) as relay,
        Hold() as hold,
    ):
        relay.on_batch = hold.in_round(2)
        migration = pair.source.migrate(pair.source.boot(guest), relay.address)
        assert hold.reached.wait(CALL_S)
        destination.process.process.terminate()
        until(lambda: any(line["event"] == "aborted" for line in lines(log)))
        hold.let_go()
        status = pair.source.follow(migration)
        assert destination.process.process.wait(CALL_S) == 0
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert "the destination host stops" in status.error
    assert_goes_on(pair.source, guest)
    assert lines(log)[-1]["event"] == "stopped"


def test_a_source_that_stops_cancels_and_says_so(pair: Pair, expendable_source: Source) -> None:
    source = expendable_source
    with Relay(pair.destination.address) as relay, Hold() as hold:
        relay.on_batch = hold.in_round(2)
        migration = source.migrate(source.boot(spec(new_name("stopped"))), relay.address)
        assert hold.reached.wait(CALL_S)
        watching = source.watch(migration)
        next(watching)
        source.process.process.terminate()
        (*_, last) = watching
        assert last.state == pb.MIGRATION_STATE_CANCELLED
        assert source.process.process.wait(CALL_S) == 0
        asked = IncomingRequest(migration_id=migration)
        assert pair.destination.stub.GetIncoming(asked).state == INCOMING_STATE_ABORTED


def test_a_source_that_is_killed_leaves_nothing_half_done(expendable_source: Source) -> None:
    """The destination frees the half guest when nothing is heard of its source any more."""
    source = expendable_source
    name = source.boot(spec(new_name("orphan")))
    options = ["--idle-expiry", "5s", "--metrics-port", "0"]
    with Destination(start("dest_host", *options)) as strict, Relay(strict.address) as relay:
        killed = Event()

        def kill(batch: PageBatch) -> None:
            if batch.round == 2:
                source.process.process.kill()
                killed.set()

        relay.on_batch = kill
        asked = IncomingRequest(migration_id=source.migrate(name, relay.address))
        assert killed.wait(CALL_S)
        until(lambda: strict.stub.GetIncoming(asked).state == INCOMING_STATE_ABORTED)
        ended = strict.stub.GetIncoming(asked)
        assert ended.received_frames >= 2048
        assert "nothing was heard of the source" in ended.message
        strict.assert_never_had(name)
        value = scrape(strict.process)
        assert value["pageferry_destination_migrations_total", ("outcome", "expired")] == 1
        assert value["pageferry_destination_memory_reserved_bytes", ("use", "incoming")] == 0


def test_a_host_on_a_unix_socket(pair: Pair, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/host.sock"
    with Destination(start("dest_host", listen=address)) as destination:
        name = pair.source.boot(spec(new_name()))
        status = pair.source.follow(pair.source.migrate(name, address))
        assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
        assert destination.guest(name).state == common_pb2.GUEST_STATE_PAUSED
        os.kill(destination.process.process.pid, signal.SIGINT)
        assert destination.process.process.wait(CALL_S) == 0


def test_a_host_of_a_background_job_ends_on_sigterm_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start("dest_host")  # inherits it
    finally:
        signal.signal(signal.SIGINT, before)
    with Destination(process) as destination:
        os.kill(process.process.pid, signal.SIGINT)
        with fails_with(grpc.StatusCode.NOT_FOUND):
            destination.stub.GetIncoming(IncomingRequest(migration_id="nobody"), timeout=CALL_S)
    assert process.process.returncode == 0
