"""The SourceHost service: from messages to guests and migrations, and back."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from pageferry.v1 import common_pb2, source_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import BadOption
from source_host.guests import Guests
from source_host.messages import guest_status, resolution_of
from source_host.migrations import Migrations
from wire.convert import guest_config
from wire.trust.access import Role, caller_of, check_digests

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


class SourceHostServicer(source_pb2_grpc.SourceHostServicer):
    """Thin: every method is one call. Errors leave as the status of their leaf."""

    def __init__(self, guests: Guests, migrations: Migrations) -> None:
        """Serve these guests and migrations."""
        self._guests = guests
        self._migrations = migrations

    def CreateGuest(
        self, request: common_pb2.GuestSpec, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Boot a guest, paused."""
        config = guest_config(request)
        return guest_status(self._guests.create(request.guest_id, config, context.is_active))

    def StartGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Say that a guest shall run."""
        hosted = self._guests.get(request.guest_id)
        hosted.start()
        return guest_status(hosted, with_digest=request.with_digest)

    def PauseGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Say that a guest shall not run."""
        hosted = self._guests.get(request.guest_id)
        hosted.pause()
        return guest_status(hosted, with_digest=request.with_digest)

    def StepGuest(
        self, request: common_pb2.StepGuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Run a paused guest by an exact amount."""
        amount = request.WhichOneof("amount")
        if amount is None or not 0 <= getattr(request, amount) < 2**62:
            raise BadOption("say by how much to step the guest: accesses or duration_ns")
        hosted = self._guests.get(request.guest_id)
        hosted.step(
            accesses=request.accesses,
            duration_ns=request.duration_ns,
            keep_going=lambda: context.is_active() and not self._guests.stopping.is_set(),
        )
        return guest_status(hosted, with_digest=request.with_digest)

    def GetGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """How a guest stands."""
        if request.with_digest:
            check_digests(caller_of(context))
        hosted = self._guests.get(request.guest_id)
        return guest_status(hosted, with_digest=request.with_digest)

    def ListGuests(
        self, request: common_pb2.ListGuestsRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestList:
        """How all guests stand."""
        hosted = sorted(self._guests.all(), key=lambda one: one.guest_id)
        return common_pb2.GuestList(guests=map(guest_status, hosted))

    def DeleteGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Forget a guest."""
        return guest_status(self._guests.delete(request.guest_id))

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
