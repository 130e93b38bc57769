"""The SourceHost service: from messages to guests and migrations, and back."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from pageferry.v1 import common_pb2, source_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from source_host.messages import resolution_of
from source_host.migrations import Migrations
from wire.convert import guest_config
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.service import GuestCalls, guest_status
from wire.trust.access import Role

DEFAULT_PERIOD_MS = 200
MIN_PERIOD_MS, MAX_PERIOD_MS = 10, 10_000
"""What a watcher gets who asks for less or more."""

_LOOK = frozenset({Role.OPERATOR, Role.VIEWER})
RULES = dict.fromkeys(
    ("GetGuest", "ListGuests", "GetMigration", "ListMigrations", "WatchMigration"), _LOOK
)
"""Whose certificates may call what."""
CONTROL = frozenset({Role.OPERATOR})
"""Who may call the rest."""


class SourceHostServicer(GuestCalls, source_pb2_grpc.SourceHostServicer):
    """Thin: every method is one call. Errors leave as the status of their leaf."""

    def __init__(self, guests: Guests, migrations: Migrations) -> None:
        """Serve these guests and migrations."""
        super().__init__(guests)
        self._migrations = migrations

    def CreateGuest(
        self, request: common_pb2.GuestSpec, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Boot a guest, paused."""
        config = guest_config(request)
        return guest_status(self._guests.create(request.guest_id, config, context.is_active).view())

    def Migrate(
        self, request: pb.MigrateRequest, context: grpc.ServicerContext
    ) -> pb.MigrationStatus:
        """Start a migration."""
        return self._migrations.start(request).status()

    def GetMigration(
        self, request: pb.MigrationRequest, context: grpc.ServicerContext
    ) -> pb.MigrationStatus:
        """How a migration stands."""
        return self._migrations.get(request.migration_id).status()

    def ListMigrations(
        self, request: pb.ListMigrationsRequest, context: grpc.ServicerContext
    ) -> pb.MigrationList:
        """How all migrations stand that are remembered."""
        return pb.MigrationList(migrations=(entry.status() for entry in self._migrations.all()))

    def WatchMigration(
        self, request: pb.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.MigrationStatus]:
        """A migration as it goes on."""
        entry = self._migrations.get(request.migration_id)
        asked_ms = request.period_ms or DEFAULT_PERIOD_MS
        period_s = min(max(asked_ms, MIN_PERIOD_MS), MAX_PERIOD_MS) / 1000
        context.add_callback(entry.wake)  # a caller that leaves gives this thread back at once
        yield from entry.watch(period_s, context.is_active)

    def CancelMigration(
        self, request: pb.MigrationRequest, context: grpc.ServicerContext
    ) -> pb.MigrationStatus:
        """Cancel before commit."""
        entry = self._migrations.get(request.migration_id)
        entry.cancel()
        return entry.status()

    def ResolveMigration(
        self, request: pb.MigrationRequest, context: grpc.ServicerContext
    ) -> pb.MigrationStatus:
        """Ask again how an in-doubt commit ended, or decide it."""
        forced = resolution_of(request)
        entry = self._migrations.get(request.migration_id)
        entry.resolve(forced)
        return entry.status()
