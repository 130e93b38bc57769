"""Every edge of the state machine, and that there is no other."""

from __future__ import annotations

from itertools import product

import pytest

from dest_host.states import INCOMING_EDGES, IncomingState, incoming_lifecycle
from paging_core.errors import IllegalTransition

PREPARED, RECEIVING, VERIFIED, COMMITTED, ABORTED = IncomingState

INCOMING = {
    (PREPARED, RECEIVING),
    (PREPARED, ABORTED),
    (RECEIVING, VERIFIED),
    (RECEIVING, ABORTED),
    (VERIFIED, RECEIVING),
    (VERIFIED, COMMITTED),
    (VERIFIED, ABORTED),
}

WAYS_IN = {
    PREPARED: [],
    RECEIVING: [RECEIVING],
    VERIFIED: [RECEIVING, VERIFIED],
    COMMITTED: [RECEIVING, VERIFIED, COMMITTED],
    ABORTED: [ABORTED],
}


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


def test_every_state_has_its_edges() -> None:
    assert set(INCOMING_EDGES) == set(IncomingState)
