"""A source host, assembled: guests, migrations, metrics and the server in front of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pageferry.v1 import source_pb2_grpc
from source_host.grpc_transport import GrpcTransport
from source_host.guests import Guests
from source_host.metrics import Metrics
from source_host.migrations import Connect, Migrations
from source_host.service import SourceHostServicer
from source_host.states import GuestState, MigrationState
from source_host.transport import Transport
from wire.metrics import host_registry
from wire.serving import Server

SERVICE = "pageferry.v1.SourceHost"


def connect(address: str, on_ack: Callable[[float], None]) -> Transport:
    """A way to the destination host at `address`.

    Raises:
        BadOption: not an address.
    """
    return GrpcTransport(address, on_ack=on_ack)


class SourceHost:
    """Everything that `source-host serve` runs.

    When the server stops, running migrations are cancelled and each guest's fate is logged.

    Attributes:
        server: what listens; start, stop or run it.
        guests: the guests of this host.
        migrations: its migrations.
    """

    def __init__(
        self,
        listen: str,
        *,
        max_total_memory_bytes: int,
        max_migrations: int,
        metrics_port: int | None = None,
        flow_root: Path | None = None,
        connect: Connect = connect,
    ) -> None:
        """Assemble; nothing listens yet.

        Args:
            listen: address to serve on.
            max_total_memory_bytes: most memory of all guests together.
            max_migrations: most that run at a time.
            metrics_port: where to show metrics; None for nowhere.
            flow_root: where flow traces may be written; None for nowhere.
            connect: makes the way to a destination.

        Raises:
            BadOption: not an address.
        """
        registry = host_registry("source")
        metrics = Metrics(registry)
        self.guests = Guests(max_total_memory_bytes)
        self.migrations = Migrations(self.guests, metrics, connect, max_migrations, flow_root)
        metrics.watch_states(
            lambda: Counter(hosted.life.state.value for hosted in self.guests.all()),
            lambda: Counter(entry.state.value for entry in self.migrations.all()),
            (tuple(GuestState), tuple(MigrationState)),
        )
        self.server = Server(
            "source",
            listen,
            [SERVICE],
            registry=registry,
            metrics_port=metrics_port,
            before_stop=self.migrations.shut_down,
        )
        servicer = SourceHostServicer(self.guests, self.migrations)
        source_pb2_grpc.add_SourceHostServicer_to_server(servicer, self.server.grpc)
