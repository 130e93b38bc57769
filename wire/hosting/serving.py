"""How a host serves: gRPC with health and reflection, metrics, and a clean end."""

from __future__ import annotations

import errno
import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from paging_core.errors import AddressInUse, BadOption
from paging_core.exhaustion import named_limits, ran_out
from paging_core.units import NS_PER_S
from wire.address import host_of, parse_address
from wire.channel import server_options
from wire.hosting.guard import Guard
from wire.hosting.metrics_page import MetricsPage
from wire.hosting.serve_settings import ServeSettings
from wire.signals import stop_signals
from wire.trust.access import Access

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_GRACE_S = 5.0
_FIRST_THREADS = 20
"""Started with the host: health checks and reflection can take 16 of them, and never all."""

_log = structlog.get_logger("wire.hosting.serving")


@dataclass(frozen=True)
class Ready:
    """The one line on standard output by which a host says that it serves.

    Attributes:
        host: which service.
        address: where it listens, the port that it was given filled in.
        metrics: host:port of its metrics page, or None.
    """

    host: str
    address: str
    metrics: str | None

    def line(self) -> str:
        """The line, JSON."""
        return json.dumps({"ready": asdict(self)})

    @classmethod
    def parse(cls, line: str) -> Ready | None:
        """Read the line; None when this is another one."""
        try:
            document = json.loads(line)
            return cls(**document["ready"])
        except (ValueError, KeyError, TypeError):
            return None


class Server:
    """A gRPC server with everything around it. Also a context manager: starts, then stops.

    Attributes:
        grpc: where the servicers are added, before `start`.
        address: what it listens on; the port is known once it started.
        metrics_address: host:port of the metrics page once it started, or None.
        hurried: whether a second signal came.
        registry: what the metrics page shows.
    """

    def __init__(
        self,
        host: str,
        settings: ServeSettings,
        services: Sequence[str],
        *,
        registry: CollectorRegistry,
        access: Access | None = None,
        spans: TracerProvider | None = None,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        before_stop: Callable[[], None] | None = None,
        after_stop: Callable[[], None] | None = None,
        hurry: bool = False,
        host_id: str = "",
    ) -> None:
        """Prepare everything; nothing listens yet.

        Args:
            host: name of the service, for the logs and the ready line.
            settings: where and how to serve.
            services: full names, for health and reflection.
            registry: metrics to show.
            access: who may call what; all callers everything when None.
            spans: where a span for each call goes; None makes none.
            interceptors: further ones, inside of the one that guards.
            before_stop: ends work of the host's own while running calls can still see it end.
            hurry: `before_stop` may take its time, and looks at `hurried`: a second signal asks
                for that, and only a third one ends the process at once.
            host_id: who it is; every answer of its own services says so. Empty says nothing.
            after_stop: gives back what the host holds, when it cannot be called any more.

        Raises:
            BadOption: not an address, no certificate where one is needed, or one that is no use.
        """
        self.host = host
        self._before_stop = before_stop
        self._can_hurry = hurry
        self.hurried = False
        self._after_stop = after_stop
        self.address = parse_address(settings.listen)
        self.metrics_address: str | None = None
        self._credentials = settings.security().server_credentials(self.address)
        self._insecure = settings.insecure and self._credentials is None
        self.registry = registry
        self._metrics_port = settings.metrics_port
        self._metrics_page: MetricsPage | None = None
        self._stop = threading.Event()
        idle_s = settings.stream_idle / NS_PER_S
        self._guard = Guard(access, settings.max_calls, idle_s, host_id)
        self._check_silence_s = min(1.0, idle_s / 4)
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._end_silent, name="silence", daemon=True)
        self._threads = _CallThreads(self._guard.most_calls, thread_name_prefix=host)
        self.grpc = grpc.server(
            self._threads,
            interceptors=[self._guard, *_spanning(spans), *interceptors],
            options=server_options(settings.max_message, settings.max_metadata),
            # One thread for each: a call beyond them would wait unseen, so it is refused.
            maximum_concurrent_rpcs=self._guard.most_calls,
        )
        self._services = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection(self._services, self.grpc)

    def start(self) -> None:
        """Listen and serve.

        Raises:
            AddressInUse: another process listens there.
            BadOption: not an address of this machine.
            LimitExceeded: not enough threads can be started.
        """
        self._threads.start()
        self.address = _bind(self.grpc, self.address, self._credentials)
        self._start_metrics()
        self.grpc.start()
        self._watch.start()
        for service in ("", *self._services):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        encrypted = self._credentials is not None
        _log.info(
            "serving", address=self.address, metrics=self.metrics_address, encrypted=encrypted
        )
        if self._insecure:
            _log.warning(
                "insecure: plain text, and anyone who reaches this address controls the host",
                address=self.address,
            )

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """Say NOT_SERVING, let running calls end for `grace_s`, then cancel them."""
        self._health.enter_graceful_shutdown()
        if self._before_stop is not None:
            self._before_stop()
        self.grpc.stop(grace_s).wait()
        self._threads.shutdown()
        self._stopped.set()
        self._watch.join()
        if self._metrics_page is not None:
            self._metrics_page.close()
            self._metrics_page = None
        if self._after_stop is not None:
            self._after_stop()
        _log.info("stopped", address=self.address)

    def run(self, out: TextIO | None = None) -> None:
        """Serve until SIGTERM or SIGINT (see `wire.signals`); a further one ends it at once.

        Where the host can hurry, the second signal asks it to, and the third one ends it.

        Args:
            out: where the ready line goes; standard output when None.
        """
        before = {number: signal.getsignal(number) for number in stop_signals()}

        def ask_to_stop(number: int, _frame: FrameType | None) -> None:
            for each, handler in before.items():
                signal.signal(each, ask_to_hurry if self._can_hurry else handler)
            _log.info("stopping", signal=signal.Signals(number).name)
            self._stop.set()

        def ask_to_hurry(number: int, _frame: FrameType | None) -> None:
            for each, handler in before.items():
                signal.signal(each, handler)
            _log.info("stopping at once", signal=signal.Signals(number).name)
            self.hurried = True  # a plain flag: a lock that this thread holds would hang it

        for number in before:
            signal.signal(number, ask_to_stop)
        with self:
            print(self.ready().line(), file=out or sys.stdout, flush=True)
            self._stop.wait()

    def ready(self) -> Ready:
        """Where it serves."""
        return Ready(self.host, self.address, self.metrics_address)

    def _end_silent(self) -> None:
        while not self._stopped.wait(self._check_silence_s):
            self._guard.end_silent()

    def _start_metrics(self) -> None:
        if self._metrics_port is None:
            return
        # The page is read from where the service is: both on loopback, or both not.
        host = "127.0.0.1" if self.address.startswith("unix:") else host_of(self.address)
        try:
            self._metrics_page = MetricsPage(host, self._metrics_port, self.registry)
        except OSError as error:
            raise _cannot_bind(f"{host}:{self._metrics_port}", "--metrics-port", error) from error
        self.metrics_address = f"{host}:{self._metrics_page.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _CallThreads(ThreadPoolExecutor):
    """A thread for each call, some of them from the start: then a call finds one in any case.

    Where no further one can be started, a call waits for one of those that are there.
    """

    def start(self) -> None:
        """Start as many as serve a host that can start no more.

        Raises:
            LimitExceeded: so many cannot be started.
        """
        together = threading.Barrier(_FIRST_THREADS + 1)
        try:
            with named_limits():
                for _ in range(_FIRST_THREADS):  # each waits for all, so that none serves two
                    self.submit(together.wait)
        except BaseException:
            together.abort()
            self.shutdown(wait=False)
            raise
        together.wait()

    def _adjust_thread_count(self) -> None:
        """Called when work was queued, and a thread is missing if none is idle."""
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if len(self._threads) < _FIRST_THREADS:
                raise
            _log.warning("a call waits for a thread", error=str(ran_out(error) or error))


def _spanning(spans: TracerProvider | None) -> list[grpc.ServerInterceptor]:
    if spans is None:
        return []
    from wire.hosting.spans import CallSpans  # noqa: PLC0415 - an extra

    return [CallSpans(spans)]


def _bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    """Listen on `address`, and return it with the port that was given."""
    _check_free(address)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise AddressInUse(
            f"cannot listen on {address}: another process took it just now; choose another"
        ) from error
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _check_free(address: str) -> None:
    """Try the address first: gRPC does not say why it could not bind.

    Raises:
        AddressInUse: another process listens there.
        BadOption: not an address of this machine.
    """
    try:
        if address.startswith("unix:"):
            _check_unix(address.removeprefix("unix:"))
            return
        host, _, port = address.rpartition(":")
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(found[0][0]) as probe:
            # As gRPC binds: connections of an earlier server that linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
            probe.listen(1)
    except OSError as error:
        raise _cannot_bind(address, "--listen", error) from error


def _check_unix(path: str) -> None:
    """GRPC takes a socket file away from the process that listens on it; refuse that."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError(errno.EADDRINUSE, "another process listens on this socket")


def _cannot_bind(address: str, option: str, error: OSError) -> AddressInUse | BadOption:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"{address} is in use; stop who listens there, or give {option} another one "
            "(port 0 takes a free one)"
        )
    return BadOption(f"cannot listen on {address}: {error.strerror or error}; correct {option}")
