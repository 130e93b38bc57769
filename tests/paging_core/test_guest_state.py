"""How long a guest may have run: its place and its time never overflow, here or where it goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from paging_core.config import GuestConfig
from paging_core.errors import InvalidInput, LimitExceeded
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest

CONFIG = GuestConfig(2**20, workload="idle")
FOREVER_NS = 2**62 // 1000

State = dict[str, Any]


def state_of(guest: ModelGuest) -> State:
    """Its state with every member that there is, those of a file as well."""
    state: State = json.loads(guest.state())
    state["vcpu"] |= {"mappings": [0] * 16, "file_index": 0}
    return state


def moved(change: Callable[[State], None]) -> ModelGuest:
    """A guest that was handed over with a state that was changed on the way."""
    guest = ModelGuest.boot(CONFIG)
    state = state_of(guest)
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


def set_in(*path: str | int, value: Any) -> Callable[[State], None]:
    """A change of one member, however deep."""

    def change(state: State) -> None:
        at: Any = state
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def without(*path: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        at: Any = state
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return change


def members(at: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every place in a state, tables included."""
    found = []
    for key, inner in at.items():
        found.append((*path, key))
        if isinstance(inner, dict):
            found += members(inner, (*path, key))
    return found


STATE = state_of(ModelGuest.boot(CONFIG))
PLACES = [".".join(path) for path in members(STATE)]
WRONG: dict[str, Any] = {
    "null": None,
    "text": "7",
    "long": "x" * 100_000,
    "half a character": "\ud800",
    "list": [],
    "deep": [[[[[[[[[]]]]]]]]],
    "table": {"a": {"b": 1}},
    "fraction": 1.5,
    "whole fraction": 8388608.0,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "huge": 10**400,
    "beyond 64 bits": 2**64,
    "negative": -1,
}
ALLOWED = {
    ("config.tracker.clean", "null"),
    ("config.tracker.reads_map", "null"),
    ("config.tracker.violations", "null"),
    ("config.tracker.shadow_mmu", "null"),
    ("config.tracker.tracking", "null"),
    ("config.tracker.split", "null"),
    ("config.tracker.shadow_pool_frames", "null"),
    ("config.trace", "text"),
}
"""What is no mistake in that place: this guest runs no trace, and a name is as good as none."""


def refusal(change: Callable[[State], None]) -> str:
    with pytest.raises(InvalidInput) as refused:
        moved(change)
    line = str(refused.value)
    assert line.isprintable()
    assert len(line) < 1000
    assert refused.value.grpc_status == "INVALID_ARGUMENT"
    return line


@pytest.mark.parametrize("place", PLACES)
def test_any_member_of_another_type(place: str) -> None:
    for wrong, value in WRONG.items():
        if (place, wrong) in ALLOWED:
            continue
        line = refusal(set_in(*place.split("."), value=value))
        named = place.rpartition(".")[2] in line or "no guest state" in line
        assert named or wrong in {"negative", "text"}, line


@pytest.mark.parametrize("place", PLACES)
def test_any_member_that_is_missing(place: str) -> None:
    line = refusal(without(*place.split(".")))
    assert f"lacks {place.rpartition('.')[2]}" in line or place == "version"


def test_a_guest_without_a_file_says_nothing_of_one() -> None:
    """Its state, and so its downtime, is no longer than before guests had files."""
    state = json.loads(ModelGuest.boot(CONFIG).state())
    assert STATE["vcpu"].keys() - state["vcpu"].keys() == {"mappings", "file_index"}
    moved(lambda whole: whole.update(vcpu=state["vcpu"]))


@pytest.mark.parametrize("table", ["", *{place for place in PLACES if place in {"config", "vcpu"}}])
def test_any_member_too_many(table: str) -> None:
    path = (table, "new\nline") if table else ("new\nline",)
    assert r"has 'new\nline', which this host does not know" in refusal(set_in(*path, value=1))


@pytest.mark.parametrize("roots", [[], [0], [0] * 15, [0] * 17, [[0] * 16], 5, [True] * 16])
def test_another_number_of_processes(roots: object) -> None:
    assert "vcpu.roots" in refusal(set_in("vcpu", "roots", value=roots))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 500_000,
        b'{"version":' * 90_000,
        b'{"version": 1, "version": 1}',
        b"1" * 5000,
        b'"\xff\xfe"',
        b"{}" + b" " * 2**20,
        "{}".encode("utf-16"),
        b"\x00" * 100,
        b"nul",
    ],
    ids=range(10),
)
def test_what_is_no_state_at_all(text: bytes) -> None:
    memory = GuestMemory(256)
    with pytest.raises(InvalidInput) as refused:
        ModelGuest.resume(memory, text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "price",
    [True, -1, float("nan"), 1e400, "1", None, 10**300, 2**63, [1, 2], [3, 2, 1], [1, 2, "3"], []],
)
def test_a_price_that_is_none(price: object) -> None:
    refusal(set_in("config", "costs", value={"exit": price}))
