"""The fault handler, against plain Python; and it must never keep anybody waiting."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from guests.linux.handler import FaultHandler
from guests.linux.handler_state import TrackedRange, whole
from guests.linux.userfaultfd import SYNCHRONOUS, enable, make
from paging_core.config import GroupPolicy
from paging_core.errors import TrackingLost
from paging_core.guest import DirtyWords
from paging_core.memory import GuestMemory
from tests.guests.linux.groups_in_python import Groups

N_FRAMES = 1000
"""No multiple of a group: the last one is cut."""
RANDOM = np.random.default_rng(7)
PATTERNS = {
    "in order": range(N_FRAMES),
    "backwards": range(N_FRAMES - 1, -1, -1),
    "strided": [i * 123 % N_FRAMES for i in range(300)],
    "random": RANDOM.integers(0, N_FRAMES, 400).tolist(),
    "clustered": [
        int(f) % N_FRAMES for f in RANDOM.integers(0, 8, 300) * 97 + RANDOM.integers(0, 9, 300)
    ],
}


@pytest.fixture
def memory(can_track: None) -> Iterator[GuestMemory]:
    del can_track
    with GuestMemory(N_FRAMES) as memory:
        memory.populate()
        yield memory


Track = Callable[..., FaultHandler]


@pytest.fixture
def track(memory: GuestMemory) -> Iterator[Track]:
    handlers = []

    def begin(
        policy: GroupPolicy, *, ranges: list[TrackedRange] | None = None, populate: bool = False
    ) -> FaultHandler:
        descriptor = make()
        enable(descriptor, SYNCHRONOUS)
        ranges = ranges or whole(memory.frames.ctypes.data, N_FRAMES)
        handlers.append(FaultHandler(descriptor, ranges, policy, populate=populate))
        handlers[-1].start()
        return handlers[-1]

    yield begin
    for one in handlers:
        one.close()


def frames_of(words: DirtyWords) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist())


def write(memory: GuestMemory, frames: list[int] | range) -> None:
    for at, frame in enumerate(frames):
        memory.words[frame, at % 512] = at


@pytest.mark.parametrize("populate", [False, True])
@pytest.mark.parametrize(("n", "trigger"), [(1, 1), (4, 1), (16, 2), (64, 1), (64, 5), (1024, 1)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_dirty_frames_fixups_and_opened_ones(
    memory: GuestMemory, track: Track, pattern: str, n: int, trigger: int, populate: bool
) -> None:
    handler = track(GroupPolicy(frames=n, trigger=trigger), populate=populate)
    reference = Groups(N_FRAMES, n, trigger)
    for round_number in range(3):
        written = list(PATTERNS[pattern])[round_number * 50 :]
        write(memory, written)
        reference.write(written)
        assert frames_of(handler.peek()) == reference.dirty
        assert frames_of(handler.clean()) == reference.clean()
        counts = handler.counts()
        assert (counts.fixups, counts.opened) == (reference.fixups, reference.opened)
        assert counts.messages == counts.latency.sum() == counts.fixups
    assert counts.unmapped == 0


def test_nothing_is_lost_while_it_is_cleaned(memory: GuestMemory, track: Track) -> None:
    """A writer stores ascending numbers; who copies what was dirty after each clean has all."""
    handler = track(GroupPolicy(frames=16))
    copy = memory.words.copy()
    done = threading.Event()

    def store() -> None:
        for value in range(1, 60):
            memory.words[:, 5] = value
        done.set()

    writer = threading.Thread(target=store)
    writer.start()
    while not done.is_set():
        for frame in frames_of(handler.clean()):
            copy[frame] = memory.words[frame]
    writer.join()
    for frame in frames_of(handler.clean()):
        copy[frame] = memory.words[frame]
    assert (copy == memory.words).all()


def test_several_ranges_and_a_frame_of_none(memory: GuestMemory, track: Track) -> None:
    """Groups end where their range does, though the frames go on."""
    start = memory.frames.ctypes.data
    ranges = [TrackedRange(start, 0, 10), TrackedRange(start + (100 << 12), 10, 50)]
    handler = track(GroupPolicy(frames=16), ranges=ranges)
    write(memory, [3, 50, 103])
    assert frames_of(handler.clean()) == set(range(16))
    write(memory, [100])
    assert frames_of(handler.clean()) == set(range(10, 16))
    assert handler.counts().fixups == 3


def test_adaptive_groups_grow_where_writes_are_dense(memory: GuestMemory, track: Track) -> None:
    handler = track(GroupPolicy(adaptive=True))
    fixups = []
    for _ in range(4):
        before = handler.counts().fixups
        write(memory, range(512))
        dirty = np.array(sorted(frames_of(handler.clean())))
        handler.note_sent(dirty, dirty < 512)
        fixups.append(handler.counts().fixups - before)
    assert fixups[0] > fixups[-1]
    assert fixups[-1] <= 2


def test_adaptive_groups_shrink_where_the_sender_finds_opened_frames_unchanged(
    memory: GuestMemory, track: Track
) -> None:
    handler = track(GroupPolicy(adaptive=True))
    rounds = [range(512)] * 3 + [range(0, 512, 32)] * 12
    found = []
    for written in rounds:
        write(memory, written)
        dirty = np.array(sorted(frames_of(handler.clean())))
        handler.note_sent(dirty, np.isin(dirty, written))
        found.append(len(dirty))
    assert found[3] > 100
    assert found[-1] == 16


def test_untracked_again_nobody_waits(memory: GuestMemory, track: Track) -> None:
    handler = track(GroupPolicy())
    handler.stop()
    write(memory, range(N_FRAMES))
    assert handler.counts().messages == 0
    with pytest.raises(TrackingLost, match="not tracked"):
        handler.clean()


def test_a_handler_that_loses_its_descriptor_lets_everybody_go(
    memory: GuestMemory, track: Track
) -> None:
    handler = track(GroupPolicy())
    write(memory, [1])
    lost = int(handler.record["userfaultfd"][0])
    with Path(os.devnull).open() as null:
        os.dup2(null.fileno(), lost)
    write(memory, range(N_FRAMES))  # would wait for ever
    os.eventfd_write(handler._orders, 1)  # it may be in poll, on what was there before
    with pytest.raises(TrackingLost, match=r"has ended \((read|ioctl|poll)"):
        handler.clean()
    assert handler._thread
    handler._thread.join()


def test_a_hundred_leave_nothing_behind(memory: GuestMemory, track: Track) -> None:
    track(GroupPolicy()).close()
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(100):
        handler = track(GroupPolicy())
        write(memory, [1, 2])
        assert frames_of(handler.clean()) == {1, 2}
        handler.close()
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before
