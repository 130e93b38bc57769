"""The kinds of guest that need nothing of the machine, held to what every guest must do."""

from __future__ import annotations

import json

import pytest

from paging_core.config import CleanPolicy, GroupPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.guest import Guest
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from tests.dest_host.fake_guest import FakeGuest as ArrivingGuest
from tests.guests.conformance import Conformance
from tests.guests.fake import FakeGuest, FakePacedGuest, busy

MIB = 2**20
N_FRAMES = 300
TRACKERS = {
    "shadow": TrackerConfig(Paging.SHADOW),
    "groups": TrackerConfig(Paging.SHADOW, group=GroupPolicy(16)),
    "adaptive": TrackerConfig(Paging.SHADOW, group=GroupPolicy(adaptive=True)),
    "hap": TrackerConfig(Paging.HAP),
    "pml": TrackerConfig(Paging.HAP, pml=True),
    "clear-log": TrackerConfig(Paging.SHADOW, CleanPolicy.CLEAR_LOG),
}


@pytest.mark.parametrize("tracker", TRACKERS)
class TestModel(Conformance):
    """`paging_core.model_guest.ModelGuest`, by what tracks it."""

    @pytest.fixture(autouse=True)
    def _of(self, tracker: str) -> None:
        self.config = GuestConfig(8 * MIB, TRACKERS[tracker], workload="hotcold:wss=1MiB,writes=1")

    def made(self) -> Guest:
        return ModelGuest.boot(self.config)

    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        return ModelGuest.resume(memory, state)


class TestFake(Conformance):
    """The fake of the source's tests."""

    def made(self) -> Guest:
        return FakeGuest(N_FRAMES, busy(10, 50))

    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        return FakeGuest(memory, busy(10, 50), position=int.from_bytes(state, "little"))


class TestArriving(Conformance):
    """The fake of the destination's tests."""

    def made(self) -> Guest:
        return ArrivingGuest(GuestMemory(N_FRAMES))

    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        return ArrivingGuest(memory, json.loads(state)["position"])


class TestPaced(Conformance):
    """The fake that runs by itself and knows no truth, as real guests do."""

    def made(self) -> Guest:
        return FakePacedGuest(N_FRAMES, busy(10, 50))

    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        return FakePacedGuest(memory, busy(10, 50), int.from_bytes(state, "little"))
