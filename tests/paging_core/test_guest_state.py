"""How long a guest may have run: its place and its time never overflow, here or where it goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from paging_core.config import GuestConfig
from paging_core.errors import InvalidInput, LimitExceeded
from paging_core.model_guest import ModelGuest

CONFIG = GuestConfig(2**20, workload="idle")
FOREVER_NS = 2**62 // 1000

State = dict[str, Any]


def moved(change: Callable[[State], None]) -> ModelGuest:
    """A guest that was handed over with a state that somebody meddled with."""
    guest = ModelGuest.boot(CONFIG)
    state = json.loads(guest.state())
    change(state)
    return ModelGuest.resume(guest.memory, json.dumps(state).encode())


@pytest.mark.parametrize("position", [-1, 2**53, 2**62, 2**63 - 1, 2**63])
def test_a_place_that_no_guest_comes_to(position: int) -> None:
    with pytest.raises(InvalidInput):
        moved(lambda state: state["vcpu"].update(position=position))


@pytest.mark.parametrize("time_ps", [-1, 2**61, 2**62 - 1, 2**63])
def test_a_time_that_no_guest_comes_to(time_ps: int) -> None:
    with pytest.raises(InvalidInput):
        moved(lambda state: state.update(time_ps=time_ps))


def test_the_oldest_guest_that_is_taken_runs_on() -> None:
    def age(state: State) -> None:
        state["vcpu"].update(position=2**53 - 1)
        state.update(time_ps=2**61 - 1)

    guest = moved(age)
    began_ns = guest.time_ns
    guest.run_accesses(20_000)
    guest.run(guest.time_ns + 1_000_000)
    assert guest.position > 2**53 + 20_000
    assert guest.time_ns > began_ns + 1_000_000


@pytest.mark.parametrize(
    "run", [lambda guest: guest.run_accesses(1), lambda guest: guest.run(guest.time_ns + 1)]
)
def test_a_guest_whose_time_is_over_says_so(run: Callable[[ModelGuest], None]) -> None:
    guest = ModelGuest.boot(CONFIG)
    guest.stall(FOREVER_NS + 1)
    with pytest.raises(LimitExceeded, match="this guest's time is over"):
        run(guest)
