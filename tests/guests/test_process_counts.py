"""The process and the model execute the same operations: memory and counts are the same.

The model knows its writes by its own P2M and TLB; what is counted of the process, the kernel's page
faults say, whose stores those were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from guests.process.guest import ProcessGuest
from paging_core.config import (
    GroupPolicy,
    GuestConfig,
    GuestKind,
    Paging,
    TrackerConfig,
    Tracking,
)
from paging_core.guest import Cleaned
from paging_core.log_dirty import count
from paging_core.model_guest import ModelGuest

MEMORY = 8 << 20
LOADS = {
    "sequential:wss=2MiB,words=64": 9000,
    "uniform:wss=2MiB,writes=0.7": 300,
    "zipf:wss=2MiB,writes=0.5": 800,
    "hotcold:wss=2MiB": 500,
    "strided:wss=4MiB,stride=36KiB": 70,
    "phased:wss=4MiB": 1500,
    "churn:wss=1MiB": 700,
    "switches:wss=1MiB": 400,
}
"""And how many operations make a round."""
ROUNDS = 6
SIZES = (1, 4, 16, 64, 256)

pytestmark = pytest.mark.usefixtures("can_track")


@pytest.fixture(params=LOADS)
def load(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair(load: str, n: int, tracking: Tracking | None = None) -> tuple[ModelGuest, ProcessGuest]:
    group = GroupPolicy(frames=n)
    model = GuestConfig(MEMORY, TrackerConfig(paging=Paging.HAP, group=group), workload=load)
    tracker = TrackerConfig(group=group, tracking=tracking)
    real = GuestConfig(MEMORY, tracker, kind=GuestKind.PROCESS, workload=load)
    return ModelGuest.boot(model), ProcessGuest.boot(real)


def rounds(guest: ModelGuest | ProcessGuest, ops: int) -> Iterator[tuple[Cleaned, int]]:
    """Each round's clean, and the fixups since tracking began."""
    guest.start_tracking()
    for _ in range(ROUNDS):
        guest.run_accesses(ops)
        yield guest.clean(), guest.counters().faults["fixup"]


@pytest.mark.parametrize("n", SIZES)
def test_fixups_dirty_and_falsely_dirty_frames_are_the_models(load: str, n: int) -> None:
    model, real = pair(load, n)
    some = 0
    with closing(model), closing(real):
        both = zip(rounds(model, LOADS[load]), rounds(real, LOADS[load]), strict=True)
        for (modelled, model_fixups), (found, fixups) in both:
            np.testing.assert_array_equal(found.dirty, modelled.dirty)
            assert found.falsely_dirty_count == modelled.falsely_dirty_count
            assert found.written == modelled.written
            assert found.dirty_count == count(found.dirty)
            assert fixups == model_fixups
            some += found.dirty_count
        np.testing.assert_array_equal(real.memory.frames, model.memory.frames)
        assert real.counters().accesses == model.counters().accesses
    assert some


def test_what_the_kernel_remembers_is_what_the_model_wrote(load: str) -> None:
    model, real = pair(load, 1, Tracking.UFFD_ASYNC)
    with closing(model), closing(real):
        both = zip(rounds(model, LOADS[load]), rounds(real, LOADS[load]), strict=True)
        for (modelled, model_fixups), (found, fixups) in both:
            np.testing.assert_array_equal(found.dirty, modelled.dirty)
            assert found.falsely_dirty_count == 0
            assert fixups == model_fixups
        np.testing.assert_array_equal(real.memory.frames, model.memory.frames)
