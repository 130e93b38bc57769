"""Calls to a source host, raising pageferry's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from pageferry.v1 import common_pb2, source_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from wire.channel import connect
from wire.replies import clean_replies
from wire.status import rpc_errors
from wire.trust.security import THIS_MACHINE, Security

_BOOT_TIMEOUT_S = 600
"""Booting fills memory, and the first boot on a machine compiles the kernels."""
_CALL_TIMEOUT_S = 60
_WATCH_PERIOD_MS = 100


class SourceClient:
    """One source host.

    Every call raises the `PageferryError` that the host raised, or `HostUnreachable`. Text in its
    replies can be printed: see `wire.text`.
    """

    def __init__(self, address: str, security: Security = THIS_MACHINE) -> None:
        self.address = address
        self._security = security
        self._channel = connect(address, security)
        self._stub = source_pb2_grpc.SourceHostStub(clean_replies(self._channel))
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        with rpc_errors(self.address, self._security, answered=self._answered):
            yield
        self._answered = True

    def create_guest(self, spec: common_pb2.GuestSpec) -> common_pb2.GuestStatus:
        """Boot a guest, paused."""
        with self._call():
            return self._stub.CreateGuest(spec, timeout=_BOOT_TIMEOUT_S)

    def guest(self, guest_id: str) -> common_pb2.GuestStatus:
        """What a guest is doing."""
        with self._call():
            return self._stub.GetGuest(
                common_pb2.GuestRequest(guest_id=guest_id), timeout=_CALL_TIMEOUT_S
            )

    def start_guest(self, guest_id: str) -> common_pb2.GuestStatus:
        """Let a guest run."""
        with self._call():
            return self._stub.StartGuest(
                common_pb2.GuestRequest(guest_id=guest_id), timeout=_CALL_TIMEOUT_S
            )

    def delete_guest(self, guest_id: str) -> None:
        """Forget a guest and free its memory."""
        with self._call():
            self._stub.DeleteGuest(
                common_pb2.GuestRequest(guest_id=guest_id), timeout=_CALL_TIMEOUT_S
            )

    def migrate(self, request: pb.MigrateRequest) -> pb.MigrationStatus:
        """Start a migration."""
        with self._call():
            return self._stub.Migrate(request, timeout=_CALL_TIMEOUT_S)

    def watch(self, migration_id: str) -> Iterator[pb.MigrationStatus]:
        """The states of a migration until one that carries an outcome."""
        request = pb.WatchRequest(migration_id=migration_id, period_ms=_WATCH_PERIOD_MS)
        with self._call():
            call = self._stub.WatchMigration(request)
            try:
                yield from call
            finally:
                call.cancel()

    def cancel(self, migration_id: str) -> pb.MigrationStatus:
        """Cancel a migration that is not committed."""
        with self._call():
            return self._stub.CancelMigration(
                pb.MigrationRequest(migration_id=migration_id), timeout=_CALL_TIMEOUT_S
            )

    def resolve(
        self,
        migration_id: str,
        resolution: pb.Resolution.ValueType = pb.RESOLUTION_UNSPECIFIED,
    ) -> pb.MigrationStatus:
        """Ask the destination how a commit in doubt ended, or decide where it gives no answer."""
        with self._call():
            return self._stub.ResolveMigration(
                pb.MigrationRequest(migration_id=migration_id, resolution=resolution),
                timeout=_CALL_TIMEOUT_S,
            )

    def migrations(self) -> list[pb.MigrationStatus]:
        """Those that run, and the last that ended."""
        with self._call():
            reply = self._stub.ListMigrations(pb.ListMigrationsRequest(), timeout=_CALL_TIMEOUT_S)
            return list(reply.migrations)
