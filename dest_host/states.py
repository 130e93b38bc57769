"""States of an incoming migration and of a guest here, and the only ways between them.

    incoming     PREPARED -> RECEIVING -> VERIFIED -> COMMITTED
                 VERIFIED -> RECEIVING           more pages came after a comparison
                 the first three -> ABORTED

    guest        PAUSED <-> RUNNING              start, pause
                 PAUSED, RUNNING -> CRASHED      its own kernel gave up

A guest exists here only from COMMITTED on, and an aborted migration is never committed:
that is what lets the source rely on either answer.
"""

from __future__ import annotations

from enum import StrEnum

from wire.hosting.lifecycle import Edges, Lifecycle


class IncomingState(StrEnum):
    """How far an incoming migration has come."""

    PREPARED = "prepared"
    RECEIVING = "receiving"
    VERIFIED = "verified"
    COMMITTED = "committed"
    ABORTED = "aborted"


class GuestState(StrEnum):
    """What a guest that was taken over is doing."""

    PAUSED = "paused"
    RUNNING = "running"
    CRASHED = "crashed"


INCOMING_EDGES: Edges[IncomingState] = {
    IncomingState.PREPARED: frozenset({IncomingState.RECEIVING, IncomingState.ABORTED}),
    IncomingState.RECEIVING: frozenset({IncomingState.VERIFIED, IncomingState.ABORTED}),
    IncomingState.VERIFIED: frozenset(
        {IncomingState.RECEIVING, IncomingState.COMMITTED, IncomingState.ABORTED}
    ),
    IncomingState.COMMITTED: frozenset(),
    IncomingState.ABORTED: frozenset(),
}
"""Where an incoming migration may go from each state."""

GUEST_EDGES: Edges[GuestState] = {
    GuestState.PAUSED: frozenset({GuestState.RUNNING, GuestState.CRASHED}),
    GuestState.RUNNING: frozenset({GuestState.PAUSED, GuestState.CRASHED}),
    GuestState.CRASHED: frozenset(),
}
"""Where a guest may go from each state."""


def incoming_lifecycle(migration_id: str) -> Lifecycle[IncomingState]:
    """The life of a migration that was just prepared."""
    what = f"migration {migration_id!r}"
    return Lifecycle(what, IncomingState.PREPARED, INCOMING_EDGES)


def guest_lifecycle(guest_id: str) -> Lifecycle[GuestState]:
    """The life of a guest that was just taken over: paused."""
    return Lifecycle(f"guest {guest_id!r}", GuestState.PAUSED, GUEST_EDGES)
