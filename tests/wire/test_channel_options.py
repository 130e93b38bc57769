"""Every option of gRPC that this project sets does what it is set for.

gRPC ignores an option that it does not know, without a word. So each is looked up in the library,
and each has a test that sees what it does on the wire, and that the same is not seen without it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from source_host import grpc_transport
from tests.wire.raw_http2 import (
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    Connection,
    RawServer,
    raw_client,
)
from wire import channel
from wire.channel import CHANNEL_OPTIONS, ChannelOption, server_options

MIB = 2**20
CALL_S = 60
SOURCE_OPTIONS = grpc_transport.CHANNEL_OPTIONS_OF_A_STREAM
TREE = Path(channel.__file__).parents[1]
PACKAGES = ("paging_core", "guests", "wire", "source_host", "dest_host", "pageferry")
LIBRARY = next(Path(grpc.__file__).parent.glob("_cython/cygrpc*.so")).read_bytes()

Options = Sequence[ChannelOption]


def named(name: str, options: Options = CHANNEL_OPTIONS, **values: int) -> list[ChannelOption]:
    """The options, that one with another value."""
    assert name in dict(options), f"{name} is not set"
    return [(key, values["as_"] if key == name else value) for key, value in options]


def without(name: str, options: Options = CHANNEL_OPTIONS) -> list[ChannelOption]:
    """The options but that one."""
    assert name in dict(options), f"{name} is not set"
    return [(key, value) for key, value in options if key != name]


def option_names() -> list[str]:
    """Whatever looks like an option of gRPC in the source."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in sorted((TREE / package).rglob("*.py")):
            found |= set(re.findall(r"""["'](grpc\.[a-z0-9_.]+)["']""", path.read_text()))
    return sorted(found)


@pytest.mark.parametrize("name", option_names())
def test_the_library_knows_the_name(name: str) -> None:
    assert LIBRARY.count(name.encode()) > 0, f"grpc {grpc.__version__} has no option {name}"


def test_that_finds_options_and_a_name_that_does_not_exist() -> None:
    every = {name for name, _ in (*CHANNEL_OPTIONS, *server_options(), *SOURCE_OPTIONS)}
    assert every < set(option_names())
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in LIBRARY


class Echo(grpc.GenericRpcHandler):
    """Answers with as many bytes as it is asked for."""

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        def answer(request: bytes, _context: grpc.ServicerContext) -> bytes:
            return bytes(int(request[:20].split(b" ")[0] or 0))

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def serving(options: Options) -> Iterator[str]:
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, [Echo()], options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def ask(address: str, options: Options, request: bytes, **more: Any) -> str:
    """How a call ends: OK, or its status and what it says."""
    with grpc.insecure_channel(address, options=options) as client:
        echo: Any = client.unary_unary("/echo/Echo")
        try:
            echo(request, timeout=CALL_S, **more)
        except grpc.RpcError as error:
            end: Any = error
            return f"{end.code().name}: {end.details()}"
    return "OK"


def test_lengths_of_messages() -> None:
    with serving(server_options(2 * MIB)) as address:
        assert ask(address, CHANNEL_OPTIONS, b"0 ".ljust(2 * MIB)) == "OK"
        assert "larger than max" in ask(address, CHANNEL_OPTIONS, b"0 ".ljust(2 * MIB + 1))
        # Answers of more than gRPC's own 4 MiB, as long as the answering side sends them.
        five_mib = b"%d" % (5 * MIB)
        assert ask(address, CHANNEL_OPTIONS, five_mib) == "OK"
        unset = without("grpc.max_receive_message_length")
        assert "Received message larger" in ask(address, unset, five_mib)
        name = "grpc.max_send_message_length"
        one_mib = named(name, as_=MIB)
        assert "Sent message larger" in ask(address, one_mib, b"0 ".ljust(MIB + 1))
    with serving(named(name, server_options(), as_=MIB)) as address:
        assert "Sent message larger" in ask(address, CHANNEL_OPTIONS, b"%d" % (MIB + 1))
    with serving(without("grpc.max_receive_message_length", server_options())) as address:
        assert "larger than max" in ask(address, CHANNEL_OPTIONS, b"0 ".ljust(5 * MIB))


def test_lengths_of_headers() -> None:
    def answers(options: Options, size: int) -> set[str]:
        with serving(options) as address:
            metadata = (("x", "y" * size),)
            ends = [ask(address, CHANNEL_OPTIONS, b"0", metadata=metadata) for _ in range(10)]
            return {end.partition(":")[0] for end in ends}

    ours, larger = server_options(), server_options(max_metadata_bytes=4096)
    assert answers(ours, 14_000) == {"OK"}
    assert answers(ours, 17_000) == {"RESOURCE_EXHAUSTED"}
    assert answers(larger, 5_000) == {"RESOURCE_EXHAUSTED"}
    # Without one of the two, gRPC refuses some by chance, or takes longer ones.
    assert answers(without("grpc.max_metadata_size", ours), 14_000) != {"OK"}
    unset = without("grpc.absolute_max_metadata_size", larger)
    assert answers(unset, 5_000) != {"RESOURCE_EXHAUSTED"}


def begun(client: grpc.Channel) -> Any:
    """A call that goes on until it is cancelled."""
    method: Any = client.unary_stream("/raw/Stream")
    return method(b"begin")


@contextmanager
def streaming(server: RawServer, options: Options) -> Iterator[tuple[Connection, Any]]:
    """A call that was begun at our end of the wire."""
    with grpc.insecure_channel(server.address, options=options) as client:
        call = begun(client)
        connection = server.connection()
        assert connection.wait_for(lambda: bool(connection.of_kind(HEADERS)))
        yield connection, call
        call.cancel()


def test_the_window_is_wide_from_the_beginning_and_not_probed() -> None:
    def seen(options: Options) -> tuple[int, int]:
        with RawServer() as server, streaming(server, options) as (connection, call):
            connection.send_message(1, bytes(10_000))
            assert next(call)
            # A probe would leave at once; the answer to a ping of ours comes after it.
            connection.send(PING, b"12345678")
            assert connection.wait_for(lambda: bool(connection.of_kind(PING, ack=True)))
            return connection.settings()[INITIAL_WINDOW_SIZE], len(connection.of_kind(PING))

    assert seen(CHANNEL_OPTIONS) == (64 * MIB, 0)
    assert seen(without("grpc.http2.lookahead_bytes"))[0] < 64 * MIB
    assert seen(without("grpc.http2.bdp_probe"))[1] > 0


def test_a_servers_window_is_as_wide() -> None:
    def window(options: Options) -> int:
        with serving(options) as address:
            client = raw_client(address)
            with client.socket:
                return client.settings()[INITIAL_WINDOW_SIZE]

    assert window(server_options()) == 64 * MIB
    assert window(without("grpc.http2.lookahead_bytes", server_options())) < 64 * MIB


READS = """
import subprocess, sys
from tests.wire.test_channel_options import serving, server_options, without
options = server_options()
for name in sys.argv[1:]:
    options = without(name, options)
sender = '''
import sys
import grpc
options = [("grpc.max_send_message_length", -1)]
with grpc.insecure_channel(sys.argv[1], options=options) as channel:
    for _ in range(4):
        channel.unary_unary("/echo/Echo")(b"0 ".ljust(16 << 20))
'''
with serving(options) as address:
    subprocess.run([sys.executable, "-c", sender, address], check=True, stderr=subprocess.DEVNULL)
"""


def reads(*unset: str) -> int:
    """How often a server without these options read from its socket for 64 MiB; by its own log."""
    told = os.environ | {"GRPC_TRACE": "event_engine_endpoint", "GRPC_VERBOSITY": "info"}
    log = subprocess.run(
        [sys.executable, "-c", READS, *unset], env=told | {"PYTHONPATH": str(TREE)},
        capture_output=True, text=True, check=True, timeout=CALL_S,
    ).stderr  # fmt: skip
    return len(re.findall(r"Read (?:complete|succeeded)", log))


def test_much_is_read_from_a_socket_at_a_time() -> None:
    ours = reads()
    assert ours > 0
    for name in ("tcp_read_chunk_size", "tcp_max_read_chunk_size"):
        assert reads(f"grpc.experimental.{name}") > 2 * ours, name


def test_a_proxy_is_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with RawServer(hangs_up=True) as proxy, serving(server_options()) as address:
        monkeypatch.setenv("grpc_proxy", f"http://{proxy.address}")
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        assert ask(address, CHANNEL_OPTIONS, b"0") == "OK"
        assert not proxy.accepted_s
        assert ask(address, without("grpc.enable_http_proxy"), b"0") != "OK"
        assert proxy.accepted_s


def test_two_servers_do_not_share_a_port() -> None:
    with serving(server_options()) as address, ThreadPoolExecutor(1) as threads:
        for options in (server_options(), without("grpc.so_reuseport", server_options())):
            second = grpc.server(threads, options=options)
            with pytest.raises(RuntimeError):
                second.add_insecure_port(address)
    unset = without("grpc.so_reuseport", server_options())
    with serving(unset) as address, ThreadPoolExecutor(1) as threads:
        second = grpc.server(threads, options=unset)
        assert second.add_insecure_port(address)


def fast(options: Options) -> list[ChannelOption]:
    """The options, with a ping every half second of silence."""
    assert dict(options)["grpc.keepalive_time_ms"] == channel.PING_EVERY_MS
    return named("grpc.keepalive_time_ms", options, as_=500)


def test_a_client_asks_in_silence_for_as_long_as_it_lasts() -> None:
    def asked(options: Options, timeout_s: float) -> bool:
        with RawServer() as server, streaming(server, options) as (connection, _):
            return connection.wait_for(lambda: len(connection.of_kind(PING)) >= 4, timeout_s)

    ours = fast(CHANNEL_OPTIONS)
    assert asked(ours, CALL_S)
    # Without it, two pings, and then one a minute.
    assert not asked(without("grpc.http2.max_pings_without_data", ours), 2.5)
    assert not asked(without("grpc.keepalive_time_ms", ours), 2.5)


def given_up(connection: Connection, timeout_s: float) -> bool:
    """Whether the other end closes the connection, nobody answering its pings."""
    return connection.wait_for(lambda: connection.ended_s is not None, timeout_s)


def client_gives_up(options: Options, timeout_s: float) -> bool:
    with RawServer(answers_pings=False) as server, streaming(server, options) as (connection, _):
        return given_up(connection, timeout_s)


def server_gives_up(options: Options, timeout_s: float) -> bool:
    with serving(options) as address:
        client = raw_client(address)
        client.answers_pings = False
        with client.socket:
            return given_up(client, timeout_s)


@pytest.mark.parametrize(
    ("options", "gives_up", "after_ms"),
    [
        (CHANNEL_OPTIONS, client_gives_up, 30_000),
        (SOURCE_OPTIONS, client_gives_up, 3_600_000),
        (server_options(), server_gives_up, 3_600_000),
    ],
)
def test_who_does_not_answer_is_given_up(
    options: Options, gives_up: Callable[[Options, float], bool], after_ms: int
) -> None:
    name = "grpc.http2.ping_timeout_ms"
    assert [value for key, value in options if key == name] == [after_ms]
    soon = named(name, fast(options), as_=500)
    assert gives_up(soon, CALL_S)
    assert not gives_up(without(name, soon), 1.5)
    assert not gives_up(without("grpc.keepalive_time_ms", soon), 1.5)


def user_timeouts_ms(port: int) -> set[int]:
    """Of this process's TCP sockets from or to a port."""
    found = set()
    for name in Path("/proc/self/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(name.name))) as own:
            if own.family != socket.AF_UNIX and own.getpeername()[1] == port:
                found.add(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return found


def test_the_kernel_ends_a_connection_to_a_dead_network() -> None:
    def of_client(options: Options) -> set[int]:
        with RawServer() as server, streaming(server, options):
            return user_timeouts_ms(int(server.address.rpartition(":")[2]))

    def of_server(options: Options) -> set[int]:
        with serving(options) as address:
            client = raw_client(address)
            with client.socket:
                client.settings()
                return user_timeouts_ms(client.socket.getsockname()[1])

    for options, of in ((SOURCE_OPTIONS, of_client), (server_options(), of_server)):
        assert of(options) == {30_000}
        assert of(without("grpc.keepalive_timeout_ms", options)) != {30_000}


def test_a_server_looks_after_connections_without_calls() -> None:
    def asked(options: Options, timeout_s: float) -> bool:
        with serving(options) as address:
            client = raw_client(address)
            with client.socket:
                return client.wait_for(lambda: len(client.of_kind(PING)) >= 4, timeout_s)

    ours = fast(server_options())
    assert asked(ours, CALL_S)
    assert not asked(without("grpc.keepalive_permit_without_calls", ours), 2.5)


def pings_until_ended(options: Options, every_s: float, number: int) -> int:
    """How many pings a silent client sends before a server has had enough."""
    with serving(options) as address:
        client = raw_client(address)
        with client.socket:
            client.settings()
            for sent in range(number):
                client.send(PING, b"%8d" % sent)
                if client.wait_for(lambda: bool(client.of_kind(GOAWAY)), every_s):
                    return sent + 1
    return number


def test_pings_of_peers_are_answered_and_a_flood_of_them_is_not() -> None:
    ours = server_options()
    assert pings_until_ended(ours, 1.2, 6) == 6
    flood = pings_until_ended(ours, 0.05, 50)
    assert flood == channel.MAX_PING_STRIKES + 2  # the first is never too soon
    for name in ("http2.min_ping_interval_without_data_ms", "keepalive_permit_without_calls"):
        assert pings_until_ended(without(f"grpc.{name}", ours), 1.2, 6) < 6
    more = named("grpc.http2.max_ping_strikes", ours, as_=10)
    assert pings_until_ended(more, 0.05, 50) == 12


def connections_in(options: Options, seconds: float) -> int:
    """How often a client tries to reach a host that hangs up."""
    with RawServer(hangs_up=True) as server:
        until_s = time.monotonic() + seconds
        with grpc.insecure_channel(server.address, options=options) as client:
            call: Any = client.unary_unary("/raw/Call")
            while time.monotonic() < until_s:
                with suppress(grpc.RpcError):
                    call(b"", timeout=until_s - time.monotonic(), wait_for_ready=True)
        return len(server.accepted_s)


def test_a_source_tries_again_at_once() -> None:
    ours = connections_in(SOURCE_OPTIONS, 3)
    assert ours >= 3
    # gRPC's own way is a second, then 1.6 times as long each time.
    for name in ("grpc.initial_reconnect_backoff_ms", "grpc.max_reconnect_backoff_ms"):
        assert int(dict(SOURCE_OPTIONS)[name]) <= 1000
    slow = named("grpc.initial_reconnect_backoff_ms", SOURCE_OPTIONS, as_=30_000)
    slow = named("grpc.max_reconnect_backoff_ms", slow, as_=30_000)
    assert connections_in(slow, 3) < ours


def test_each_migration_has_a_connection_of_its_own() -> None:
    def connections(options: Options) -> int:
        with RawServer() as server:
            clients = [grpc.insecure_channel(server.address, options=options) for _ in range(2)]
            calls = [begun(client) for client in clients]
            until_s = time.monotonic() + CALL_S
            while sum(len(one.of_kind(HEADERS)) for one in server.connections) < 2:
                assert time.monotonic() < until_s
                time.sleep(0.01)
            for call, client in zip(calls, clients, strict=True):
                call.cancel()
                client.close()
            return len(server.connections)

    assert connections(SOURCE_OPTIONS) == 2
    assert connections(without("grpc.use_local_subchannel_pool", SOURCE_OPTIONS)) == 1
