"""Each tracker reports what was written, no less, and takes write access from just that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from guests.kvm.runner import GUEST_SLOT
from guests.kvm.tracking import ClearLog, DirtyLog, DirtyRing, Tracking, UserFault
from paging_core.config import GroupPolicy
from paging_core.errors import CannotTrack
from paging_core.log_dirty import frames_of
from paging_core.workloads.ops import READ, WRITE
from tests.guests.kvm.small import FIRST_FRAME, FIRST_VA, PAGES, SmallMachine, ops_of

_NOTES_FRAME = FIRST_FRAME + PAGES - 1
_RING = 1024


def _cleared(machine: SmallMachine, *, initially_set: bool = False) -> Tracking:
    return _Clearing(machine, initially_set=initially_set)


class _Clearing(ClearLog):
    """A clean clears all that it reports, as a sender does in the end."""

    def __init__(self, machine: SmallMachine, *, initially_set: bool) -> None:
        super().__init__(machine.runner.machine, GUEST_SLOT, initially_set=initially_set)
        self._all = initially_set

    def start(self) -> None:
        super().start()
        if self._all:
            assert len(frames_of(super().clean())) == FIRST_FRAME + PAGES
            self.clean()

    def clean(self) -> Any:
        words = super().clean()
        self.clear_log(frames_of(words))
        return words


TRACKERS: dict[str, Callable[[SmallMachine], Tracking]] = {
    "dirty-log": lambda one: DirtyLog(one.runner.machine, GUEST_SLOT),
    "blow": lambda one: DirtyLog(one.runner.machine, GUEST_SLOT, blow=True),
    "clear-log": _cleared,
    "initially-set": lambda one: _cleared(one, initially_set=True),
    "ring": lambda one: DirtyRing(one.runner.machine, GUEST_SLOT),
    "uffd": lambda one: UserFault(one.memory, GroupPolicy(1), populate=False),
    "uffd-populate": lambda one: UserFault(one.memory, GroupPolicy(1), populate=True),
}


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[SmallMachine]:
    request.getfixturevalue("can_virtualize")
    made = SmallMachine(ring_entries=_RING if request.param == "ring" else 0)
    yield made
    made.close()


def _tracker(machine: SmallMachine, name: str) -> Tracking:
    try:
        return TRACKERS[name](machine)
    except CannotTrack as error:
        pytest.skip(str(error))


def _write(machine: SmallMachine, pages: list[int]) -> None:
    machine.runner.execute(ops_of(*((WRITE, FIRST_VA + page * 4096, 7, 1) for page in pages)))


def _written(words: Any) -> list[int]:
    """Pages of the window; notes and tables left out."""
    gfns = frames_of(words)
    return [int(g) - FIRST_FRAME for g in gfns if FIRST_FRAME <= g < _NOTES_FRAME]


@pytest.mark.parametrize(
    ("machine", "name"), [(name, name) for name in TRACKERS], indirect=["machine"]
)
def test_rounds_report_what_was_written_since_the_last(machine: SmallMachine, name: str) -> None:
    draw = np.random.default_rng(5)
    _write(machine, list(range(PAGES - 1)))
    tracker = _tracker(machine, name)
    tracker.start()
    for _ in range(6):
        pages = np.unique(draw.integers(0, PAGES - 1, 40)).tolist()
        _write(machine, pages)
        _write(machine, pages[:7])
        found = tracker.clean()
        assert _written(found) == pages
        assert _NOTES_FRAME in frames_of(found)
    assert _written(tracker.clean()) == []
    tracker.stop()
    _write(machine, [1, 2])
    tracker.start()
    assert _written(tracker.clean()) == []
    tracker.stop()


@pytest.mark.parametrize("machine", ["dirty-log"], indirect=True)
@pytest.mark.parametrize("populate", [False, True])
@pytest.mark.parametrize("n", [4, 64])
def test_a_group_is_opened_whole(machine: SmallMachine, n: int, populate: bool) -> None:
    try:
        tracker = UserFault(machine.memory, GroupPolicy(n), populate=populate)
    except CannotTrack as error:
        pytest.skip(str(error))
    _write(machine, list(range(PAGES - 1)))
    tracker.start()
    _write(machine, [33, 34, 100])
    frames = [FIRST_FRAME + page for page in (33, 34, 100)] + [_NOTES_FRAME]
    opened = {frame // n * n + i for frame in frames for i in range(n)}
    expected = sorted(gfn for gfn in opened if gfn < FIRST_FRAME + PAGES)
    assert frames_of(tracker.clean()).tolist() == expected
    tracker.stop()


@pytest.mark.parametrize("machine", ["ring"], indirect=True)
def test_a_full_ring_is_emptied_and_nothing_is_forgotten(machine: SmallMachine) -> None:
    tracker = DirtyRing(machine.runner.machine, GUEST_SLOT)
    machine.runner.when_full = tracker.when_full
    tracker.start()
    machine.runner.execute(ops_of(*((READ, FIRST_VA, 0, 0) for _ in range(3))))
    for _ in range(5):
        _write(machine, list(range(PAGES - 1)))
        machine.runner.when_full()
    assert tracker.entries > 4 * (PAGES - 1)
    assert _written(tracker.clean()) == list(range(PAGES - 1))
    tracker.stop()
