"""A process as guest does what every guest does."""

from __future__ import annotations

import pytest

from guests.process.guest import ProcessGuest
from paging_core.config import GroupPolicy, GuestConfig, GuestKind, TrackerConfig, Tracking
from paging_core.guest import Guest
from paging_core.memory import GuestMemory
from tests.guests.conformance import Conformance

MEMORY = 4 << 20
LOAD = "uniform:wss=1MiB,writes=0.7"


class _Process(Conformance):
    tracker: TrackerConfig

    @pytest.fixture(autouse=True)
    def _can(self, can_track: None) -> None:
        del can_track

    def made(self) -> Guest:
        return ProcessGuest.boot(
            GuestConfig(MEMORY, self.tracker, kind=GuestKind.PROCESS, workload=LOAD)
        )

    def arrived(self, memory: GuestMemory, state: bytes) -> Guest:
        return ProcessGuest.resume_from(memory, state)


class TestSingly(_Process):
    tracker = TrackerConfig()


class TestGroups(_Process):
    tracker = TrackerConfig(group=GroupPolicy(frames=16))


class TestAdaptive(_Process):
    tracker = TrackerConfig(group=GroupPolicy(adaptive=True))


class TestAsynchronous(_Process):
    tracker = TrackerConfig(tracking=Tracking.UFFD_ASYNC)
