"""A source host, assembled: guests, migrations, metrics and the server in front of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import wire.trust.handshake  # noqa: F401 - what explains a failure is not loaded in the middle of one
from pageferry.v1 import source_pb2_grpc
from paging_core.units import NS_PER_S
from source_host.grpc_transport import GrpcTransport
from source_host.migrations import Migrations
from source_host.precopy.transport import Metadata, Transport
from source_host.service import CONTROL, RULES, SourceHostServicer
from source_host.settings import SourceSettings
from source_host.states import MigrationState
from source_host.watch.live_metrics import GUESTS, show_running
from source_host.watch.metrics import Metrics
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.states import GuestState
from wire.hosting.metrics import host_registry, show_guests
from wire.hosting.room import MemoryOfHost
from wire.hosting.serving import Server
from wire.trust.access import Access

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "pageferry.v1.SourceHost"


class SourceHost:
    """Everything that `source-host serve` runs.

    When the server stops, running migrations end first or are cancelled, and each guest's fate
    is logged.

    Attributes:
        server: what listens; start, stop or run it.
        guests: the guests of this host.
        migrations: its migrations.
    """

    def __init__(self, settings: SourceSettings, spans: TracerProvider | None = None) -> None:
        """Assemble; nothing listens yet.

        Args:
            settings: of the host.
            spans: where spans go; None makes none.

        Raises:
            BadOption: it cannot serve with these settings.
        """
        security = settings.security()

        def connect(
            address: str, on_ack: Callable[[float], None], metadata: Callable[[], Metadata]
        ) -> Transport:
            return GrpcTransport(
                address,
                security,
                on_ack=on_ack,
                metadata=metadata,
                stall_s=settings.stall_timeout / NS_PER_S,
            )

        registry = host_registry("source")
        metrics = Metrics(registry)
        self.guests = Guests(settings.max_total_memory, settings.max_guest_memory, MemoryOfHost())
        self.migrations = Migrations(
            self.guests, metrics, connect, settings.max_migrations, settings.flow_dir, spans
        )
        metrics.watch_states(
            lambda: Counter(hosted.life.state.value for hosted in self.guests.all()),
            lambda: Counter(entry.state.value for entry in self.migrations.all()),
            (tuple(GuestState), tuple(MigrationState)),
        )
        metrics.watch_memory(lambda: sum(hosted.memory_bytes for hosted in self.guests.all()))
        show_running(registry, self.migrations.running)
        show_guests(registry, GUESTS, self._guests_here)
        self.server = Server(
            "source",
            settings,
            [SERVICE],
            registry=registry,
            access=Access(RULES, otherwise=CONTROL),
            spans=spans,
            before_stop=self._drain,
            after_stop=self.guests.close,
            hurry=True,
        )
        self._drain_s = settings.drain / NS_PER_S
        servicer = SourceHostServicer(self.guests, self.migrations)
        source_pb2_grpc.add_SourceHostServicer_to_server(servicer, self.server.grpc)

    def _drain(self) -> None:
        """Take on nothing more, and let what is under way end."""
        self.guests.take_no_more()
        self.migrations.shut_down(self._drain_s, lambda: self.server.hurried)

    def _guests_here(self) -> Iterator[tuple[str, str, str]]:
        """Those that this host holds, the ones in doubt first: they need an operator."""
        here = [(hosted.life.state, hosted) for hosted in self.guests.all()]
        for state, hosted in sorted(
            here, key=lambda one: (one[0] is not GuestState.IN_DOUBT, one[1].guest_id)
        ):
            if state is not GuestState.MOVED:
                yield hosted.guest_id, state.value, hosted.migration_id
