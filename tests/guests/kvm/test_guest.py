"""A virtual machine as guest does what every guest does."""

from __future__ import annotations

import pytest

from guests.kvm.guest import KvmGuest
from paging_core.config import CleanPolicy, GroupPolicy, GuestConfig, GuestKind, TrackerConfig
from paging_core.config import Tracking as Way
from paging_core.guest import Guest
from paging_core.memory import GuestMemory
from tests.guests.conformance import Conformance

MEMORY = 4 << 20
LOAD = "uniform:wss=1MiB,writes=0.7"


class _Machine(Conformance):
    tracker: TrackerConfig
    load = LOAD

    @pytest.fixture(autouse=True)
    def _can(self, can_virtualize: None) -> None:
        del can_virtualize

    def made(self) -> Guest:
        return KvmGuest.boot(
            GuestConfig(MEMORY, self.tracker, kind=GuestKind.KVM, workload=self.load)
        )

    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        return KvmGuest.resume_from(memory, state)


class TestDirtyLog(_Machine):
    tracker = TrackerConfig()


class TestBlow(_Machine):
    tracker = TrackerConfig(clean=CleanPolicy.BLOW)


class TestClearLog(_Machine):
    tracker = TrackerConfig(tracking=Way.CLEAR_LOG)


class TestDirtyRing(_Machine):
    tracker = TrackerConfig(tracking=Way.DIRTY_RING)


class TestSeveralAddressSpaces(_Machine):
    tracker = TrackerConfig()
    load = "switches:wss=256KiB,processes=3,switch_every=300,writes=0.7"


class _Groups(_Machine):
    @pytest.fixture(autouse=True)
    def _can_too(self, can_track: None) -> None:
        del can_track


class TestUserfault(_Groups):
    tracker = TrackerConfig(tracking=Way.UFFD_SYNC)


class TestGroups(_Groups):
    tracker = TrackerConfig(tracking=Way.UFFD_SYNC, group=GroupPolicy(16))
