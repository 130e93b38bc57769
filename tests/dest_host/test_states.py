"""Every edge of both state machines, and that there is no other."""

from __future__ import annotations

from itertools import product

import pytest

from dest_host.states import (
    GUEST_EDGES,
    INCOMING_EDGES,
    GuestState,
    IncomingState,
    guest_lifecycle,
    incoming_lifecycle,
)
from paging_core.errors import IllegalTransition

PREPARED, RECEIVING, VERIFIED, COMMITTED, ABORTED = IncomingState
PAUSED, RUNNING, CRASHED = GuestState

INCOMING = {
    (PREPARED, RECEIVING),
    (PREPARED, ABORTED),
    (RECEIVING, VERIFIED),
    (RECEIVING, ABORTED),
    (VERIFIED, RECEIVING),
    (VERIFIED, COMMITTED),
    (VERIFIED, ABORTED),
}
GUEST = {(PAUSED, RUNNING), (RUNNING, PAUSED), (PAUSED, CRASHED), (RUNNING, CRASHED)}

WAYS_IN = {
    PREPARED: [],
    RECEIVING: [RECEIVING],
    VERIFIED: [RECEIVING, VERIFIED],
    COMMITTED: [RECEIVING, VERIFIED, COMMITTED],
    ABORTED: [ABORTED],
}
GUEST_WAYS_IN = {PAUSED: [], RUNNING: [RUNNING], CRASHED: [CRASHED]}


@pytest.mark.parametrize(("before", "after"), list(product(IncomingState, repeat=2)))
def test_incoming(before: IncomingState, after: IncomingState) -> None:
    life = incoming_lifecycle("m-1")
    for state in WAYS_IN[before]:
        life.to(state)
    if (before, after) in INCOMING:
        life.to(after)
        assert life.state is after
        return
    with pytest.raises(IllegalTransition, match=f"migration 'm-1' is {before}"):
        life.to(after)
    assert life.state is before


@pytest.mark.parametrize(("before", "after"), list(product(GuestState, repeat=2)))
def test_guest(before: GuestState, after: GuestState) -> None:
    life = guest_lifecycle("web")
    for state in GUEST_WAYS_IN[before]:
        life.to(state)
    if (before, after) in GUEST:
        life.to(after)
        assert life.state is after
        return
    with pytest.raises(IllegalTransition, match=f"guest 'web' is {before}"):
        life.to(after)
    assert life.state is before


def test_every_state_has_its_edges() -> None:
    assert set(INCOMING_EDGES) == set(IncomingState)
    assert set(GUEST_EDGES) == set(GuestState)
