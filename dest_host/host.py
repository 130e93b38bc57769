"""A whole destination host: service, server, and the clean-up of silent migrations."""

from __future__ import annotations

from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import structlog

from dest_host.receiver import Receiver
from dest_host.service import CONTROL, RULES, SERVICE, DestinationService, PageStreamCodec
from dest_host.settings import DestinationSettings
from pageferry.v1.destination_pb2_grpc import add_DestinationHostServicer_to_server
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.kinds import Kinds
from wire.hosting.room import MemoryOfHost
from wire.hosting.serving import Server
from wire.identity import new_host_id
from wire.trust.access import Access

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = structlog.get_logger("dest_host.host")


class DestinationHost:
    """Serves a receiver. Also a context manager: starts, then stops.

    Attributes:
        receiver: what does the work.
        server: where it is served.
    """

    def __init__(self, settings: DestinationSettings, spans: TracerProvider | None = None) -> None:
        """Assemble; nothing listens yet.

        Args:
            settings: of the host.
            spans: where spans go; None makes none.

        Raises:
            BadOption: it cannot serve with these settings.
        """
        self.receiver = Receiver(
            settings.limits(),
            machine=MemoryOfHost(),
            guests=Guests(kinds=Kinds(trace_dir=settings.trace_dir)),
            host_id=new_host_id(settings.security().name),
        )
        self.server = Server(
            "dest-host",
            settings,
            [SERVICE],
            registry=self.receiver.metrics.registry,
            access=Access(RULES, otherwise=CONTROL, sources=settings.sources),
            spans=spans,
            interceptors=[PageStreamCodec()],
            before_stop=self._refuse,
            host_id=self.receiver.host_id,
        )
        service = DestinationService(self.receiver)
        add_DestinationHostServicer_to_server(service, self.server.grpc)
        self._ended = Event()
        self._expiry = Thread(target=self._expire, name="expiry", daemon=True)

    def run(self, out: TextIO | None = None) -> None:
        """Serve until a signal; see `Server.run`."""
        self._expiry.start()
        _log.info("identity drawn", host_id=self.receiver.host_id)
        try:
            self.server.run(out)
        finally:
            self._end()

    def _refuse(self) -> None:
        """Migrations under way are aborted while answers still go out: their guests stay.

        A guest that was committed now would be lost with this process, as those are that are
        here: the log says which.
        """
        self.receiver.guests.stopping.set()
        self.receiver.abort_all("the destination host stops")
        for guest in self.receiver.guests.all():
            _log.warning(
                "guest ends with this host",
                guest=guest.guest_id,
                state=guest.state.value,
                migration=guest.came_by,
            )

    def _expire(self) -> None:
        period_s = min(1.0, self.receiver.limits.idle_expiry_s / 4)
        while not self._ended.wait(period_s):
            self.receiver.expire()

    def _end(self) -> None:
        self._ended.set()
        self._expiry.join()
        self.receiver.close()

    def __enter__(self) -> Self:
        self.server.start()
        self._expiry.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.server.stop(0)
        self._end()
