"""States of a migration, and the only ways from one to the next.

    SETUP -> PRE_COPY -> STOP_AND_COPY -> VERIFYING -> COMMITTING -> COMPLETED
    the first four -> CANCELLED
    the first five -> FAILED
    COMMITTING -> IN_DOUBT -> COMPLETED or FAILED

Those of its guest are in `wire.hosting.guests.states`.
"""

from __future__ import annotations

from enum import StrEnum

from wire.hosting.lifecycle import Edges, Lifecycle


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


def migration_lifecycle(migration_id: str) -> Lifecycle[MigrationState]:
    """The life of a migration that was just asked for."""
    return Lifecycle(f"migration {migration_id!r}", MigrationState.SETUP, MIGRATION_EDGES)
