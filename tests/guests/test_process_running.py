"""A process as guest while it runs: by itself, tracked and cleaned, and when its handler fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guests.process.guest import ProcessGuest, executor_config
from guests.process.tracking import SynchronousTracking
from paging_core.config import GroupPolicy, GuestConfig, GuestKind, TrackerConfig, Tracking
from paging_core.errors import GuestCrashed, InvalidInput, TrackingLost
from paging_core.log_dirty import frames_of
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from tests.journey.hosts import until

pytestmark = pytest.mark.usefixtures("can_track")
CONFIG = GuestConfig(
    8 << 20, kind=GuestKind.PROCESS, workload="hotcold:wss=4MiB,write_rate=2000000"
)
TRACKERS = {
    "singly": TrackerConfig(),
    "groups": TrackerConfig(group=GroupPolicy(frames=16)),
    "adaptive": TrackerConfig(group=GroupPolicy(adaptive=True)),
    "asynchronous": TrackerConfig(tracking=Tracking.UFFD_ASYNC),
}


def ran(guest: ProcessGuest, operations: int) -> None:
    """Wait until it has run so many more; it runs on."""
    target = guest.position + operations
    until(lambda: guest.position >= target)


def failed(guest: ProcessGuest) -> bool:
    """Raises once something has stopped it, and is False until then."""
    guest.check()
    return False


@pytest.fixture
def guest() -> Iterator[ProcessGuest]:
    with closing(ProcessGuest.boot(CONFIG)) as guest:
        yield guest


@pytest.mark.parametrize("tracker", TRACKERS.values(), ids=list(TRACKERS))
def test_who_copies_what_cleans_report_has_all_of_it(tracker: TrackerConfig) -> None:
    """A migration in small. The guest there, and a model that did the same, are equal to it."""
    with closing(ProcessGuest.boot(replace(CONFIG, tracker=tracker))) as guest:
        there = GuestMemory(guest.n_frames)
        guest.resume()
        guest.start_tracking()
        there.frames[:] = guest.memory.frames
        for _ in range(8):
            ran(guest, 3000)
            dirty = frames_of(guest.clean().dirty)
            there.frames[dirty] = guest.memory.frames[dirty]
            guest.note_sent(dirty, np.ones(len(dirty), np.bool_))
        guest.pause()
        last = frames_of(guest.clean().dirty)
        there.frames[last] = guest.memory.frames[last]
        np.testing.assert_array_equal(there.frames, guest.memory.frames)
        with closing(ModelGuest.boot(executor_config(CONFIG))) as model:
            model.run_accesses(guest.position)
            np.testing.assert_array_equal(guest.memory.frames, model.memory.frames)
            with closing(ProcessGuest.resume_from(there, guest.state())) as moved:
                assert moved.position == guest.position
                moved.resume()
                ran(moved, 3000)
                moved.pause()
                model.run_accesses(moved.position - model.position)
                np.testing.assert_array_equal(moved.memory.frames, model.memory.frames)


def test_it_is_never_ahead_of_its_pace(guest: ProcessGuest) -> None:
    """What it executed, but for the last operation, takes the load no longer than it ran.

    Over pauses, and over the ends of the 16,384 operations that it is given at a time.
    """
    for operations in (1000, 40_000, 1000, 1):
        guest.resume()
        ran(guest, operations)
        guest.pause()
    with closing(ModelGuest.boot(executor_config(CONFIG))) as model:
        before = model.machine.core["time"]["run_ps"][0]
        model.run_accesses(guest.position - 1)
        load_ps = int(model.machine.core["time"]["run_ps"][0] - before)
    assert 1000 * 100_000 < load_ps < (guest.time_ns + 1) * 1000  # it counts whole nanoseconds


def test_time_and_stalls_are_what_was_measured(guest: ProcessGuest) -> None:
    guest.start_tracking()
    guest.resume()
    ran(guest, 20000)
    guest.pause()
    counters = guest.counters()
    record = guest._runner.record[0]
    assert counters.faults["userfault"] == counters.faults["fixup"] > 0
    assert 0 < record["stalls"] == record["latency"].sum() <= counters.faults["userfault"]
    assert 0 < counters.tracking_ns["fixup"] < guest.time_ns
    assert counters.base_ns is not None
    assert counters.base_ns + counters.tracking_ns["fixup"] <= guest.time_ns
    samples = guest.samples
    assert (np.diff(samples, axis=0) >= 0).all()
    assert len(samples) == 0 or samples[-1, 1] <= guest.position


def test_a_handler_that_dies_leaves_nobody_waiting(guest: ProcessGuest) -> None:
    guest.start_tracking()
    guest.resume()
    tracking = guest._tracking
    assert isinstance(tracking, SynchronousTracking)
    with Path(os.devnull).open() as null:
        os.dup2(null.fileno(), int(tracking.faults["userfaultfd"][0]))
    ran(guest, 50000)  # it goes on, whatever it writes
    with pytest.raises(TrackingLost, match="start tracking again"):
        until(lambda: failed(guest))
    with pytest.raises(TrackingLost):
        guest.clean()
    guest.stop_tracking()
    guest.start_tracking()
    ran(guest, 1000)
    assert len(frames_of(guest.clean().dirty))


def test_a_load_that_ends_is_a_crash(guest: ProcessGuest) -> None:
    def fill(_position: int, _ops: object) -> None:
        raise OSError("the trace is gone")

    vars(guest._runner._workload)["fill"] = fill
    guest.resume()
    with pytest.raises(GuestCrashed, match="the trace is gone"):
        until(lambda: failed(guest))


def test_a_hundred_leave_nothing_behind() -> None:
    def there_is() -> tuple[int, int, int]:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            maps.count("pageferry-guest"),
        )

    config = replace(CONFIG, memory_bytes=2 << 20, workload="uniform:wss=1MiB")
    ProcessGuest.boot(config).close()
    before = there_is()
    for _ in range(100):
        guest = ProcessGuest.boot(config)
        guest.start_tracking()
        guest.resume()
        guest.clean()
        guest.close()
    assert there_is() == before


@pytest.mark.parametrize("damage", ["roots", "counts", "kind"])
def test_what_cannot_be_is_refused_before_it_runs(guest: ProcessGuest, damage: str) -> None:
    memory, state = GuestMemory(guest.n_frames), guest.state()
    memory.frames[:] = guest.memory.frames
    match damage:
        case "roots":
            memory.words[guest._executor.machine.core["vcpu"]["cr3"][0], 0] = -1
        case "counts":
            memory.words[1] = 0
        case "kind":
            state = state.replace(b'"kind":"process"', b'"kind":"other"')
    with memory, pytest.raises(InvalidInput):
        ProcessGuest.resume_from(memory, state)
