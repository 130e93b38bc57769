"""How a host serves, tried on a server without any service of its own."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from pageferry.v1.destination_pb2 import DESCRIPTOR
from paging_core.errors import AddressInUse, BadOption, HostUnreachable, LimitExceeded
from tests.journey.hosts import until
from wire.channel import connect
from wire.hosting.launch import HostProcess
from wire.hosting.metrics import host_registry
from wire.hosting.serve_settings import ServeSettings
from wire.hosting.serving import Ready, Server

SERVICE = DESCRIPTOR.services_by_name["DestinationHost"].full_name


def server(
    listen: str = "127.0.0.1:0", metrics_port: int | None = None, *, insecure: bool = False
) -> Server:
    settings = ServeSettings(listen=listen, metrics_port=metrics_port, insecure=insecure)
    return Server("test", settings, [SERVICE], registry=_registry())


def _registry() -> CollectorRegistry:
    registry = host_registry("destination")
    Counter("pageferry_destination_tests", "Tests.", registry=registry).inc(3)
    return registry


def health(address: str, service: str = "") -> int:
    with connect(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return int(answer.status)


def test_health_of_the_host_and_of_its_service() -> None:
    with server() as serving:
        for service in ("", SERVICE):
            assert health(serving.address, service) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health(serving.address, "pageferry.v1.Other")
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_turns_before_the_server_goes() -> None:
    with server() as serving, connect(serving.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        stopping = Thread(target=serving.stop, args=(30.0,))
        stopping.start()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watched.cancel()
        stopping.join()


def test_reflection_lists_the_contract() -> None:
    with server() as serving, connect(serving.address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=20)
        names = {service.name for service in answer.list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health"} <= names


def test_the_metrics_page() -> None:
    with server(metrics_port=0) as serving:
        address = serving.metrics_address
        page = urllib.request.urlopen(f"http://{address}/metrics", timeout=20).read().decode()
    assert "pageferry_destination_tests_total 3.0" in page
    assert 'pageferry_destination_build_info{contract="1.3"' in page
    assert "_created" not in page
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=20)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_metrics_page_of_an_ipv6_address() -> None:
    with server("[::1]:0", metrics_port=0) as serving:
        assert serving.metrics_address is not None
        port = serving.metrics_address.rpartition(":")[2]
        page = urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=20).read().decode()
    assert "pageferry_destination_tests_total 3.0" in page


def test_connections_to_the_metrics_page_on_which_nothing_comes() -> None:
    with server(metrics_port=0) as serving, ExitStack() as stack:
        assert serving.metrics_address is not None
        host, _, port = serving.metrics_address.rpartition(":")
        for _ in range(200):
            stack.enter_context(socket.create_connection((host, int(port))))
        url = f"http://{serving.metrics_address}/metrics"
        page = urllib.request.urlopen(url, timeout=20).read().decode()
        assert "pageferry_destination_tests_total 3.0" in page
        until(lambda: threading.active_count() < 100)


def test_two_servers_do_not_share_their_counts() -> None:
    one, other = host_registry("source"), host_registry("source")
    Counter("pageferry_source_tests", "Tests.", registry=one).inc()
    assert other.get_sample_value("pageferry_source_tests_total") is None


def test_a_free_port_is_found_and_told() -> None:
    with server() as serving:
        assert serving.address.startswith("127.0.0.1:")
        assert not serving.address.endswith(":0")
        assert serving.metrics_address is None
        assert Ready.parse(serving.ready().line()) == Ready("test", serving.address, None)


def test_other_lines_are_not_the_ready_line() -> None:
    for line in ("", "hello", "{}", '{"ready": 1}', '{"ready": {"host": "x"}}'):
        assert Ready.parse(line) is None


def test_a_port_in_use() -> None:
    with server() as serving, pytest.raises(AddressInUse, match=r"--listen.*port 0"):
        server(serving.address).start()


def test_a_port_in_use_by_something_that_is_not_grpc() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)):
            server(f"127.0.0.1:{port}").start()
        with pytest.raises(AddressInUse, match="--metrics-port"):
            server(metrics_port=port).start()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(BadOption, match="cannot listen on 192"):
        server("192.0.2.1:50052", insecure=True).start()


def test_a_unix_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/host.sock"
    with server(address) as serving:
        assert serving.address == address
        assert health(address) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(AddressInUse, match=r"host\.sock"):
            server(address).start()
        assert health(address) == health_pb2.HealthCheckResponse.SERVING


def test_a_unix_socket_that_an_earlier_server_left(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()
    with server(f"unix:{path}") as serving:
        assert health(serving.address) == health_pb2.HealthCheckResponse.SERVING


def test_a_host_that_does_not_start_logs_why() -> None:
    with pytest.raises(HostUnreachable, match=r"dest_host did not start.*'lots' is not a number"):
        HostProcess("dest_host", ["--max-guest-memory", "lots"], timeout_s=60)


def test_calls_for_which_no_thread_can_be_started_wait_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with server() as serving, monkeypatch.context() as patch:
        threads = serving._threads
        patch.setattr(threading, "_start_new_thread", none_left)
        done = [threads.submit(lambda number=number: number) for number in range(200)]  # type: ignore[misc]
        assert [each.result(30) for each in done] == list(range(200))


def test_a_host_that_cannot_start_its_first_threads_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_one = threading._start_new_thread  # type: ignore[attr-defined]
    left = iter(range(5))

    def few_left(*arguments: object) -> object:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        return start_one(*arguments)

    monkeypatch.setattr(threading, "_start_new_thread", few_left)
    with pytest.raises(LimitExceeded, match=r"threads .*ulimit -u"):
        server().start()
