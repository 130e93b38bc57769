"""Every edge that is not drawn is refused, and every one that is drawn exists."""

from __future__ import annotations

import itertools

import pytest

from paging_core.errors import IllegalTransition
from source_host.states import MigrationState, migration_lifecycle
from wire.hosting.guests.states import GuestState, guest_lifecycle
from wire.hosting.lifecycle import Lifecycle

G, M = GuestState, MigrationState

GUEST = {
    (G.PAUSED, G.RUNNING),
    (G.RUNNING, G.PAUSED),
    (G.PAUSED, G.IN_DOUBT),
    (G.IN_DOUBT, G.PAUSED),
    (G.IN_DOUBT, G.MOVED),
    (G.PAUSED, G.MOVED),
    (G.PAUSED, G.CRASHED),
    (G.RUNNING, G.CRASHED),
}
MIGRATION = {
    (M.SETUP, M.PRE_COPY),
    (M.PRE_COPY, M.STOP_AND_COPY),
    (M.STOP_AND_COPY, M.VERIFYING),
    (M.VERIFYING, M.COMMITTING),
    (M.COMMITTING, M.COMPLETED),
    (M.COMMITTING, M.FAILED),
    (M.COMMITTING, M.IN_DOUBT),
    (M.IN_DOUBT, M.COMPLETED),
    (M.IN_DOUBT, M.FAILED),
    *((state, M.FAILED) for state in (M.SETUP, M.PRE_COPY, M.STOP_AND_COPY, M.VERIFYING)),
    *((state, M.CANCELLED) for state in (M.SETUP, M.PRE_COPY, M.STOP_AND_COPY, M.VERIFYING)),
}
GUEST_PATHS = {
    G.PAUSED: [],
    G.RUNNING: [G.RUNNING],
    G.IN_DOUBT: [G.IN_DOUBT],
    G.MOVED: [G.MOVED],
    G.CRASHED: [G.CRASHED],
}
_LIVE = [M.PRE_COPY, M.STOP_AND_COPY, M.VERIFYING, M.COMMITTING]
MIGRATION_PATHS = {
    M.SETUP: [],
    **{state: _LIVE[: i + 1] for i, state in enumerate(_LIVE)},
    M.IN_DOUBT: [*_LIVE, M.IN_DOUBT],
    M.COMPLETED: [*_LIVE, M.COMPLETED],
    M.FAILED: [M.FAILED],
    M.CANCELLED: [M.CANCELLED],
}


def guest_in(state: GuestState) -> Lifecycle[GuestState]:
    life = guest_lifecycle("vm")
    for step in GUEST_PATHS[state]:
        life.to(step)
    return life


def migration_in(state: MigrationState) -> Lifecycle[MigrationState]:
    life = migration_lifecycle("vm-1")
    for step in MIGRATION_PATHS[state]:
        life.to(step)
    return life


@pytest.mark.parametrize(("old", "new"), sorted(GUEST))
def test_guest_takes_each_drawn_edge(old: GuestState, new: GuestState) -> None:
    life = guest_in(old)
    life.to(new)
    assert life.state is new


@pytest.mark.parametrize(("old", "new"), sorted(set(itertools.product(G, G)) - GUEST))
def test_guest_refuses_every_other_edge(old: GuestState, new: GuestState) -> None:
    life = guest_in(old)
    with pytest.raises(IllegalTransition, match=f"'vm' is {old} and cannot become {new}"):
        life.to(new)
    assert life.state is old


@pytest.mark.parametrize(("old", "new"), sorted(MIGRATION))
def test_migration_takes_each_drawn_edge(old: MigrationState, new: MigrationState) -> None:
    life = migration_in(old)
    life.to(new)
    assert life.state is new


@pytest.mark.parametrize(("old", "new"), sorted(set(itertools.product(M, M)) - MIGRATION))
def test_migration_refuses_every_other_edge(old: MigrationState, new: MigrationState) -> None:
    life = migration_in(old)
    with pytest.raises(IllegalTransition, match=f"'vm-1' is {old} and cannot become {new}"):
        life.to(new)
    assert life.state is old


def test_outcomes_are_the_states_that_nothing_follows() -> None:
    assert {state for state in M if state.is_outcome} == {M.COMPLETED, M.FAILED, M.CANCELLED}
