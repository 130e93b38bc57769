"""A run in strides is the run in one piece, and ends where it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from paging_core.config import GuestConfig, Paging, TrackerConfig
from paging_core.model_guest import ModelGuest
from wire.hosting.strides import STRIDE_WALL_S, Strides
from wire.memory_digest import digest_memory

MIB = 2**20
WORKLOADS = (
    "uniform:wss=4MiB,write_rate=20M",
    "churn:wss=1MiB,region=256KiB,fork_every=2000,children=3,write_rate=2M",
    "idle",
)
TRACKERS = {
    "shadow": TrackerConfig(),
    "hap": TrackerConfig(paging=Paging.HAP),
}


def booted(workload: str, tracker: str = "shadow") -> ModelGuest:
    guest = ModelGuest.boot(GuestConfig(8 * MIB, TRACKERS[tracker], workload=workload))
    guest.start_tracking()
    return guest


def restless() -> Callable[[], float]:
    """A clock by which strides take too long, so that they stay short."""
    times = count(0.0, 2 * STRIDE_WALL_S)
    return lambda: next(times)


def looks() -> tuple[list[None], Callable[[], None]]:
    taken: list[None] = []
    return taken, lambda: taken.append(None)


def assert_equal(one: ModelGuest, other: ModelGuest) -> None:
    assert one.state() == other.state()
    assert one.counters() == other.counters()
    assert digest_memory(one.memory.frames) == digest_memory(other.memory.frames)
    np.testing.assert_array_equal(one.clean().dirty, other.clean().dirty)


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_where_a_run_is_cut_changes_nothing(workload: str, tracker: str) -> None:
    whole, cut = booted(workload, tracker), booted(workload, tracker)
    taken, look_up = looks()
    for duration_ns in (1, 700_001, 40_000):
        whole.run(whole.time_ns + duration_ns)
        Strides(look_up, restless()).run(cut, cut.time_ns + duration_ns)
    assert_equal(whole, cut)
    assert len(taken) > (3 if workload == "idle" else 50)
    whole.run_accesses(12_345)
    Strides(look_up, restless()).run_accesses(cut, 12_345)
    assert_equal(whole, cut)


def test_strides_grow_where_nothing_takes_long() -> None:
    guest = booted("idle")
    taken, look_up = looks()
    Strides(look_up, lambda: 0.0).run(guest, guest.time_ns + 10**12)
    assert len(taken) < 40


class Stopped(Exception):
    """The caller does not want to wait."""


def test_a_run_ends_where_it_is_told_to() -> None:
    guest = booted(WORKLOADS[0])
    steps: Iterator[int] = count()

    def look_up() -> None:
        if next(steps) == 5:
            raise Stopped

    before = guest.position
    with pytest.raises(Stopped):
        Strides(look_up, restless()).run_accesses(guest, 10**12)
    assert before < guest.position <= before + 5 * 10_000
