"""A peer that writes what steers terminals, into every text that it can send."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pageferry.cli.main import main
from pageferry.v1 import common_pb2, destination_pb2, source_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import (
    CALL_S,
    Destination,
    Source,
    new_name,
    request,
    spec,
    start,
)
from tests.source_host.peer import peer
from wire.channel import server_options
from wire.status import ERROR_KEY
from wire.version import contract_message

HOSTILE = "no room\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\u200b\x7f\r\nall guests were [bold]moved\\"
LONG = HOSTILE + "A" * 100_000
MOST_CHARS = 9000
"""Of a line of output: the fields of a row, each of them a line at most."""
STEERING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}

SERVICE = "pageferry.v1.SourceHost"


def assert_harmless(text: str) -> None:
    """Lines that can be printed, none of them long."""
    for line in text.split("\n"):
        assert not {unicodedata.category(each) for each in line} & STEERING, ascii(line)[:300]
        assert len(line) <= MOST_CHARS


def guest_status(text: str) -> common_pb2.GuestStatus:
    status = common_pb2.GuestStatus(
        guest_id=text, message=text, memory_bytes=2**64 - 1, time_ns=2**64 - 1
    )
    status.state = 99  # type: ignore[assignment]
    status.spec.CopyFrom(
        common_pb2.GuestSpec(
            guest_id=text, memory_bytes=64 << 20, workload=text, cost_overrides_ns={text: 1}
        )
    )
    return status


def migration_status(text: str, **more: Any) -> pb.MigrationStatus:
    fields: dict[str, Any] = {
        "migration_id": text, "guest_id": text, "destination": text, "error_status": text,
        "error": text, "state": pb.MIGRATION_STATE_FAILED,
        "request": pb.MigrateRequest(guest_id=text, destination=text, flow_directory=text),
        "guest": common_pb2.GuestSpec(guest_id=text, workload=text, trace=text),
        "cost": common_pb2.GuestCost(events={text: 1}, faults={text: 1}, slowdown=1.0),
        "rounds": [pb.RoundStats(round=2**32 - 1, sent_frames=2**64 - 1, duration_ns=1)],
    }  # fmt: skip
    return pb.MigrationStatus(**fields | more)


class HostileSource:
    """Answers every call of a source host with the worst text.

    Attributes:
        text: it.
        refuses: by method: this call is refused, in that text.
        status: of its migration.
        address: where it serves.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.refuses: set[str] = set()
        self.status = migration_status(text)
        self.address = ""

    def answer(self, method: str, context: grpc.ServicerContext) -> Any:
        if method in self.refuses:
            context.set_trailing_metadata(((ERROR_KEY, "NotFound"), ("x-bin", b"\x1b[2J")))
            # Headers of a call take 8 KiB.
            context.abort(grpc.StatusCode.NOT_FOUND, self.text[:4000])
        if method == "ListGuests":
            return common_pb2.GuestList(guests=[guest_status(self.text)] * 3)
        if method == "ListMigrations":
            return pb.MigrationList(migrations=[self.status] * 3)
        return guest_status(self.text) if "Guest" in method else self.status

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What gRPC serves: all that the contract has."""
        found: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in pb.DESCRIPTOR.services_by_name["SourceHost"].methods:

            def unary(_request: Any, context: grpc.ServicerContext, name: str = method.name) -> Any:
                return self.answer(name, context)

            def stream(
                _request: Any, context: grpc.ServicerContext, name: str = method.name
            ) -> Iterator[Any]:
                yield self.answer(name, context)

            made: Callable[..., Any] = grpc.unary_unary_rpc_method_handler
            behaviour: Callable[..., Any] = unary
            if method.server_streaming:
                made, behaviour = grpc.unary_stream_rpc_method_handler, stream
            found[method.name] = made(
                behaviour,
                request_deserializer=lambda data: data,
                response_serializer=lambda reply: reply.SerializeToString(),
            )
        return found


@contextmanager
def serving(text: str) -> Iterator[HostileSource]:
    hostile = HostileSource(text)
    server = grpc.server(ThreadPoolExecutor(4), options=server_options())
    handlers = grpc.method_handlers_generic_handler(SERVICE, hostile.handlers())
    server.add_generic_rpc_handlers((handlers,))
    checks = health.HealthServicer()
    checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    hostile.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield hostile
    finally:
        server.stop(None).wait()


@pytest.fixture(params=[HOSTILE, LONG], ids=["short", "long"])
def hostile(request: pytest.FixtureRequest) -> Iterator[HostileSource]:
    with serving(request.param) as source:
        yield source


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: its exit code, and all that it says."""

    def command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        said = capsys.readouterr()
        assert_harmless(said.out + said.err)
        assert "Traceback" not in said.err
        assert "PWNED" in said.out + said.err  # it came through, as text
        return int(str(caught.value.code)), said.out

    return command


def migrate(source: str) -> tuple[str, ...]:
    return ("migrate", "--source", source, "--dest", "127.0.0.1:1", "--memory", "64MiB")


COMMANDS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "ListGuests": lambda address: ("guests", address),
    "StartGuest": lambda address: ("guests", address, "start", "web"),
    "PauseGuest": lambda address: ("guests", address, "pause", "web"),
    "DeleteGuest": lambda address: ("guests", address, "delete", "web"),
    "ListMigrations": lambda address: ("migrations", address),
    "CancelMigration": lambda address: ("migrations", address, "cancel", "m"),
    "ResolveMigration": lambda address: ("migrations", address, "resolve", "m"),
    "GetGuest": lambda address: (
        "migrate",
        "--guest",
        "web",
        "--source",
        address,
        "--dest",
        "127.0.0.1:1",
    ),
    "CreateGuest": migrate,
    "Migrate": migrate,
    "WatchMigration": migrate,
}
"""A command that makes the call."""  # fmt: skip
COMMANDS_THAT_SHOW = ("ListGuests", "ListMigrations")


@pytest.mark.parametrize("method", COMMANDS)
def test_a_refusal_of_each_call(hostile: HostileSource, run: Run, method: str) -> None:
    hostile.refuses = {method}
    code, _ = run(*COMMANDS[method](hostile.address))
    assert code == 1


@pytest.mark.parametrize("method", COMMANDS_THAT_SHOW)
def test_every_field_of_a_list(hostile: HostileSource, run: Run, method: str) -> None:
    arguments = COMMANDS[method](hostile.address)
    code, table = run(*arguments)
    assert code == 0
    assert "[bold]" in table.replace("\n", "") or len(hostile.text) > 1000  # no markup either
    code, listed = run(*arguments, "--json")
    assert code == 0
    for row in json.loads(listed)[arguments[0]]:
        for value in row.values():
            assert_harmless(str(value))


@pytest.mark.parametrize(
    "state",
    [
        pb.MIGRATION_STATE_FAILED,
        pb.MIGRATION_STATE_CANCELLED,
        pb.MIGRATION_STATE_IN_DOUBT,
        pb.MIGRATION_STATE_COMPLETED,
    ],
)
def test_every_field_of_a_result(
    hostile: HostileSource, run: Run, tmp_path: Path, state: pb.MigrationState.ValueType
) -> None:
    hostile.status.state = state
    hostile.status.destination = ""
    file = tmp_path / "result.json"
    with pytest.raises(SystemExit):
        main([*migrate(hostile.address), "--json", str(file), "--quiet"])
    for text in re.findall(r'"((?:[^"\\]|\\.)*)"', file.read_text()):
        assert_harmless(json.loads(f'"{text}"'))
    hostile.refuses = {"GetGuest"}  # who was cancelled is asked for
    if state != pb.MIGRATION_STATE_COMPLETED:
        run(*migrate(hostile.address))


def test_every_field_of_a_guest_that_is_there(hostile: HostileSource, run: Run) -> None:
    code, _ = run(*COMMANDS["GetGuest"](hostile.address))
    assert code in {1, 2}


@pytest.mark.parametrize(
    ("nonsense", "says"),
    [
        ({"state": pb.MIGRATION_STATE_PRE_COPY}, "ended the report before"),
        ({"state": 77}, "ended the report before"),
        ({"cost": common_pb2.GuestCost(slowdown=math.nan)}, "nan times as long"),
        ({"cost": common_pb2.GuestCost(slowdown=-math.inf)}, "-inf times as long"),
    ],
)
def test_a_source_that_talks_nonsense(
    capsys: pytest.CaptureFixture[str], nonsense: dict[str, Any], says: str
) -> None:
    with serving(HOSTILE) as hostile, pytest.raises(SystemExit) as caught:  # noqa: PT012
        hostile.status = migration_status(HOSTILE, **nonsense)
        main([*migrate(hostile.address), "--json", "-"])
    said = capsys.readouterr()
    assert caught.value.code == 1
    assert says in said.err
    assert "Traceback" not in said.err
    assert_harmless(said.out + said.err)


class Logged:
    """Two hosts in processes of their own, and what they wrote to their logs."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._logs = {name: directory / name for name in ("source", "destination")}
        logs = {name: stack.enter_context(path.open("wb")) for name, path in self._logs.items()}
        self.source, self.destination = _both(stack, logs)

    def assert_harmless(self) -> None:
        """The logs, their JSON decoded for display."""
        for path in self._logs.values():
            for line in path.read_text().splitlines():
                for value in json.loads(line).values():
                    assert_harmless(str(value))


def _both(stack: ExitStack, logs: Mapping[str, IO[bytes]]) -> tuple[Source, Destination]:
    processes = [
        start("source_host", log=logs["source"]),
        start("dest_host", log=logs["destination"]),
    ]
    for process in processes:
        stack.callback(process.stop)
    return (
        stack.enter_context(Source(processes[0])),
        stack.enter_context(Destination(processes[1])),
    )


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    with ExitStack() as stack:
        yield Logged(stack, tmp_path_factory.mktemp("logs"))


def details_of(call: Callable[[], object]) -> str:
    """What a host says when it refuses."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert isinstance(caught.value, grpc.Call)
    return caught.value.details() or ""


@pytest.mark.parametrize("text", [HOSTILE, LONG], ids=["short", "long"])
def test_what_an_operator_sends(logged: Logged, text: str) -> None:
    source = logged.source
    name = source.boot(spec(new_name()))
    of_a_guest = common_pb2.GuestRequest(guest_id=text)
    of_a_migration = pb.MigrationRequest(migration_id=text)
    stub: source_pb2_grpc.SourceHostStub = source.stub
    calls: list[Callable[[], object]] = [
        lambda: stub.CreateGuest(spec(text), timeout=CALL_S),
        lambda: stub.CreateGuest(spec(new_name(), workload=text), timeout=CALL_S),
        lambda: stub.CreateGuest(spec(new_name(), workload="", trace=text), timeout=CALL_S),
        lambda: stub.CreateGuest(spec(new_name(), cost_overrides_ns={text: 1}), timeout=CALL_S),
        lambda: stub.StartGuest(of_a_guest, timeout=CALL_S),
        lambda: stub.GetGuest(of_a_guest, timeout=CALL_S),
        lambda: stub.DeleteGuest(of_a_guest, timeout=CALL_S),
        lambda: stub.GetMigration(of_a_migration, timeout=CALL_S),
        lambda: stub.CancelMigration(of_a_migration, timeout=CALL_S),
        lambda: stub.Migrate(request(name, text), timeout=CALL_S),
        lambda: stub.Migrate(request(name, text + ":1"), timeout=CALL_S),
        lambda: stub.Migrate(request(name, "unix:" + text), timeout=CALL_S),
        lambda: stub.Migrate(request(name, "127.0.0.1:1", flow_directory=text), timeout=CALL_S),
    ]
    for call in calls:
        assert_harmless(details_of(call))
    source.delete(name)
    logged.assert_harmless()


@pytest.mark.parametrize("text", [HOSTILE, LONG], ids=["short", "long"])
def test_what_a_source_sends(logged: Logged, text: str) -> None:
    stub = logged.destination.stub
    asked = destination_pb2.IncomingRequest(migration_id=text)

    def offered(**more: Any) -> destination_pb2.PrepareRequest:
        fields: dict[str, Any] = {
            "migration_id": new_name("m"),
            "guest": spec(new_name()),
            "proof_key": bytes(32),
        } | more
        return destination_pb2.PrepareRequest(version=contract_message(), **fields)

    calls: list[Callable[[], object]] = [
        lambda: stub.Prepare(offered(migration_id=text), timeout=CALL_S),
        lambda: stub.Prepare(offered(guest=spec(text)), timeout=CALL_S),
        lambda: stub.Prepare(offered(guest=spec(new_name(), workload=text)), timeout=CALL_S),
        lambda: stub.Prepare(
            offered(guest=spec(new_name(), workload="", trace=text)), timeout=CALL_S
        ),
        lambda: stub.GetIncoming(asked, timeout=CALL_S),
        lambda: stub.Commit(destination_pb2.CommitRequest(migration_id=text), timeout=CALL_S),
        lambda: stub.Abort(destination_pb2.AbortRequest(migration_id=text), timeout=CALL_S),
    ]
    for call in calls:
        assert_harmless(details_of(call))
    for prepared in (False, True):  # a reason to abort is remembered, of what never was, too
        offer = offered()
        if prepared:
            stub.Prepare(offer, timeout=CALL_S)
        aborted = destination_pb2.AbortRequest(migration_id=offer.migration_id, reason=text)
        stub.Abort(aborted, timeout=CALL_S)
        about = destination_pb2.IncomingRequest(migration_id=offer.migration_id)
        said = stub.GetIncoming(about, timeout=CALL_S).message
        assert "PWNED" in said
        assert_harmless(said)
        assert len(said) <= 500
        assert_harmless(details_of(lambda: stub.Prepare(offer, timeout=CALL_S)))  # noqa: B023
    logged.assert_harmless()


@pytest.mark.parametrize("method", ["Prepare", "Transfer", "CompareDigests", "Commit"])
def test_what_a_destination_sends(logged: Logged, method: str) -> None:
    source = logged.source
    name = source.boot(spec(new_name()))
    with peer() as lying:
        lying.says = {method: "LimitExceeded"}
        lying.details = HOSTILE + "A" * 4000  # more does not fit into a call's headers
        status = source.follow(source.migrate(name, lying.address))
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert "PWNED" in status.error
    assert_harmless(status.error)
    assert len(status.error) <= 1000
    assert source.guest(name).state == common_pb2.GUEST_STATE_RUNNING
    source.delete(name)
    logged.assert_harmless()
