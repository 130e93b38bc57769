"""The kinds of guest by name: in settings, state and contract, and refused where there are none."""

from __future__ import annotations

import json

import pytest

from pageferry.v1 import common_pb2
from paging_core.config import GuestConfig, GuestKind
from paging_core.errors import BadOption, InvalidInput
from paging_core.events import CAUSES, FAULT_KINDS
from paging_core.guest_accounts import FIXUP, MODEL, accounts_of, all_faults
from paging_core.guest_state import decode_state
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from wire.convert import guest_config, guest_spec
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.kinds import Kinds
from wire.hosting.guests.models import ModelMaker

MIB = 2**20
OTHERS = [kind for kind in GuestKind if kind is not GuestKind.MODEL]


def of(kind: GuestKind) -> GuestConfig:
    return GuestConfig(2 * MIB, workload="idle", kind=kind)


@pytest.mark.parametrize("kind", GuestKind)
def test_the_contract_has_every_kind(kind: GuestKind) -> None:
    assert guest_config(guest_spec("web", of(kind))).kind is kind


def test_what_says_nothing_is_a_model() -> None:
    assert guest_config(common_pb2.GuestSpec(memory_bytes=2 * MIB)).kind is GuestKind.MODEL


def test_a_kind_of_a_later_release_is_refused() -> None:
    spec = common_pb2.GuestSpec(memory_bytes=2 * MIB, kind=99)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="GuestKind 99 is none that this host knows"):
        guest_config(spec)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_source_refuses_what_it_does_not_have(kind: GuestKind) -> None:
    with pytest.raises(BadOption, match=f"no guests of kind {kind}, only model;"):
        Guests(kinds=Kinds({GuestKind.MODEL: ModelMaker()})).create("web", of(kind))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_destination_refuses_what_it_does_not_have(kind: GuestKind) -> None:
    with pytest.raises(BadOption, match=f"no guests of kind {kind}, only model;"):
        Kinds({GuestKind.MODEL: ModelMaker()}).prepare(of(kind), 0)


def test_the_state_names_its_kind() -> None:
    guest = ModelGuest.boot(of(GuestKind.MODEL))
    state = json.loads(guest.state())
    assert state["config"]["kind"] == "model"
    state["config"]["kind"] = "kvm"
    with pytest.raises(BadOption, match="kvm is no model"):
        ModelGuest.resume(guest.memory, json.dumps(state).encode())
    state["config"]["kind"] = "stone"
    with pytest.raises(InvalidInput, match="not one of model"):
        decode_state(json.dumps(state).encode())
    guest.close()


def test_a_model_is_made_of_a_model_alone() -> None:
    with GuestMemory(512) as memory, pytest.raises(BadOption, match="process is no model"):
        ModelGuest.boot(of(GuestKind.PROCESS), memory)


def test_the_model_declares_all_that_it_counts() -> None:
    assert tuple(MODEL.faults) == FAULT_KINDS
    assert tuple(MODEL.causes) == CAUSES


def test_what_is_shown_of_all_kinds_ends_with_fixups() -> None:
    assert list(all_faults())[-1] == FIXUP
    for kind in GuestKind:
        assert FIXUP in accounts_of(kind).faults
