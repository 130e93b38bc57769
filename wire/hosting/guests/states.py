"""States of a guest on a host, and the only ways from one to the next.

    PAUSED <-> RUNNING          start, pause
    PAUSED  -> IN_DOUBT         commit was sent and its answer never came
    IN_DOUBT -> PAUSED, MOVED   the destination said how it ended
    PAUSED  -> MOVED            committed
    PAUSED, RUNNING -> CRASHED  its own kernel gave up, or its process ended

RUNNING means on every host that the guest runs now: by itself, in real time; or, while it is
migrated on the virtual clock, in the time of that migration.

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


def guest_lifecycle(guest_id: str) -> Lifecycle[GuestState]:
    """The life of a guest that was just booted or taken over: paused."""
    return Lifecycle(f"guest {guest_id!r}", GuestState.PAUSED, GUEST_EDGES)
