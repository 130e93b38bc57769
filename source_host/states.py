"""States of a guest and of a migration, and the only ways from one to the next.

    guest        PAUSED <-> RUNNING          start, pause
                 PAUSED  -> IN_DOUBT         commit was sent and its answer never came
                 IN_DOUBT -> PAUSED, MOVED   the destination said how it ended
                 PAUSED  -> MOVED            committed
                 PAUSED, RUNNING -> CRASHED  its own kernel gave up

    migration    SETUP -> PRE_COPY -> STOP_AND_COPY -> VERIFYING -> COMMITTING -> COMPLETED
                 the first four -> CANCELLED
                 the first five -> FAILED
                 COMMITTING -> IN_DOUBT -> COMPLETED or FAILED

A guest leaves for MOVED only from rest: what runs here does not run anywhere else.
"""

from __future__ import annotations

from enum import StrEnum

from wire.hosting.lifecycle import Edges, Lifecycle


class GuestState(StrEnum):
    """What a guest on this host is doing."""

    PAUSED = "paused"
    RUNNING = "running"
    IN_DOUBT = "in_doubt"
    MOVED = "moved"
    CRASHED = "crashed"


class MigrationState(StrEnum):
    """How far a migration has come."""

    SETUP = "setup"
    PRE_COPY = "pre_copy"
    STOP_AND_COPY = "stop_and_copy"
    VERIFYING = "verifying"
    COMMITTING = "committing"
    IN_DOUBT = "in_doubt"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_outcome(self) -> bool:
        """Whether nothing follows."""
        return not MIGRATION_EDGES[self]


GUEST_EDGES: Edges[GuestState] = {
    GuestState.PAUSED: frozenset(
        {GuestState.RUNNING, GuestState.IN_DOUBT, GuestState.MOVED, GuestState.CRASHED}
    ),
    GuestState.RUNNING: frozenset({GuestState.PAUSED, GuestState.CRASHED}),
    GuestState.IN_DOUBT: frozenset({GuestState.PAUSED, GuestState.MOVED}),
    GuestState.MOVED: frozenset(),
    GuestState.CRASHED: frozenset(),
}
"""Where a guest may go from each state."""

_GIVE_UP = frozenset({MigrationState.FAILED, MigrationState.CANCELLED})

MIGRATION_EDGES: Edges[MigrationState] = {
    MigrationState.SETUP: _GIVE_UP | {MigrationState.PRE_COPY},
    MigrationState.PRE_COPY: _GIVE_UP | {MigrationState.STOP_AND_COPY},
    MigrationState.STOP_AND_COPY: _GIVE_UP | {MigrationState.VERIFYING},
    MigrationState.VERIFYING: _GIVE_UP | {MigrationState.COMMITTING},
    MigrationState.COMMITTING: frozenset(
        {MigrationState.COMPLETED, MigrationState.FAILED, MigrationState.IN_DOUBT}
    ),
    MigrationState.IN_DOUBT: frozenset({MigrationState.COMPLETED, MigrationState.FAILED}),
    MigrationState.COMPLETED: frozenset(),
    MigrationState.FAILED: frozenset(),
    MigrationState.CANCELLED: frozenset(),
}
"""Where a migration may go from each state."""


def guest_lifecycle(guest_id: str) -> Lifecycle[GuestState]:
    """The life of a guest that was just booted: paused."""
    return Lifecycle(f"guest {guest_id!r}", GuestState.PAUSED, GUEST_EDGES)


def migration_lifecycle(migration_id: str) -> Lifecycle[MigrationState]:
    """The life of a migration that was just asked for."""
    return Lifecycle(f"migration {migration_id!r}", MigrationState.SETUP, MIGRATION_EDGES)
