"""States of an incoming migration, and the only ways between them.

    PREPARED -> RECEIVING -> VERIFIED -> COMMITTED
    VERIFIED -> RECEIVING           more pages came after a comparison
    the first three -> ABORTED

A guest exists here only from COMMITTED on, and an aborted migration is never committed:
that is what lets the source rely on either answer. A guest's own states are in
`wire.hosting.guests.states`.
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


def incoming_lifecycle(migration_id: str) -> Lifecycle[IncomingState]:
    """The life of a migration that was just prepared."""
    what = f"migration {migration_id!r}"
    return Lifecycle(what, IncomingState.PREPARED, INCOMING_EDGES)
