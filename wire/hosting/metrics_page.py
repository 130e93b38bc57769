"""The metrics page: plain HTTP, open to all that reach the port, so its cost is bounded."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from threading import Lock, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from paging_core.exhaustion import ran_out

_CONNECTIONS = 16
"""At a time, a thread each; Prometheus needs one."""
_TIMEOUT_S = 10.0
"""For a request to come, and for its answer to be taken."""
_NAP_S = 0.1
"""Until the next try when there was no file descriptor for a connection."""

_log = structlog.get_logger("wire.hosting.metrics_page")


class MetricsPage:
    """Serves a registry from when it is made until it is closed.

    Attributes:
        port: where; the one that it was given.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        """Listen and serve.

        Args:
            host: name or address, one of IPv6 without brackets.
            port: 0 takes a free one.
            registry: what is shown.

        Raises:
            OSError: it cannot listen there.
        """
        passive = socket.AI_PASSIVE
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=passive
        )[0]
        self._server = _server_class(family)(address[:2], _Request)
        self._server.set_app(make_wsgi_app(registry))
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Request(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """A scrape every few seconds is no news."""


class _Server(ThreadingWSGIServer):
    """A connection that is one too many takes the place of the oldest.

    A client that only connects keeps no other out in this way: a scrape takes milliseconds.
    """

    request_queue_size = 128  # of five, the kernel drops a burst, and a scrape waits with it

    def __init__(self, address: Any, handler: type[WSGIRequestHandler]) -> None:
        self._lock = Lock()
        self._open: list[socket.socket] = []
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; without a file descriptor for it, it is tried again in a moment.

        It stays in the queue meanwhile, and a wait for the queue would find it at once.
        """
        try:
            return super().get_request()
        except OSError as error:
            if ran_out(error) is not None:
                time.sleep(_NAP_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= _CONNECTIONS:
                with suppress(OSError):  # it went by itself
                    self._open.pop(0).shutdown(socket.SHUT_RDWR)
            self._open.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            if request in self._open:
                self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the same
        """A client that goes away, or is sent away, is no error of this host."""
        _log.debug("no scrape", peer=str(client_address[0]), error=repr(sys.exception()))


def _server_class(family: socket.AddressFamily) -> type[_Server]:
    return type("_Server", (_Server,), {"address_family": family})
