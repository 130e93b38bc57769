"""Clearing the log in parts: what a sync reported stays writable until it is sent."""

from __future__ import annotations

import numpy as np
import pytest

from paging_core import log_dirty
from paging_core.config import CleanPolicy, GroupPolicy, Paging, TrackerConfig
from paging_core.errors import BadOption, IllegalTransition
from paging_core.model_guest import ModelGuest
from tests.paging_core.reference.harness import boot, run, walker
from tests.paging_core.reference.programs import Program, mmap, write

PAGE = 0x400
TRACKERS = [
    TrackerConfig(Paging.SHADOW, CleanPolicy.CLEAR_LOG),
    TrackerConfig(Paging.HAP, CleanPolicy.CLEAR_LOG),
    TrackerConfig(Paging.HAP, CleanPolicy.CLEAR_LOG, pml=True),
]
every_tracker = pytest.mark.parametrize(
    "tracker", TRACKERS, ids=lambda t: f"{t.paging}{'-pml' if t.pml else ''}"
)


def tracked(tracker: TrackerConfig) -> tuple[ModelGuest, list[int]]:
    """A guest with eight pages, written before and after tracking began; their frames."""
    guest = boot(tracker, 1024)
    pages: Program = [write(PAGE + i) for i in range(8)]
    run(guest, [mmap(PAGE, 8), *pages])
    guest.start_tracking()
    run(guest, pages)
    leaves = [walker(guest).translate(PAGE + i << 12) for i in range(8)]
    return guest, [leaf.gfn for leaf in leaves if leaf is not None]


def dirty(guest: ModelGuest) -> list[int]:
    found: list[int] = log_dirty.frames_of(guest.peek()).tolist()
    return found


@every_tracker
def test_a_sync_reports_and_clears_nothing(tracker: TrackerConfig) -> None:
    guest, gfns = tracked(tracker)
    assert set(gfns) <= set(log_dirty.frames_of(guest.clean().dirty).tolist())
    assert set(gfns) <= set(dirty(guest))
    before = guest.counters().faults
    run(guest, [write(PAGE + i) for i in range(8)])
    assert guest.counters().faults == before  # still writable: no fault, whatever the tracker


@every_tracker
def test_a_frame_written_before_its_part_is_cleared_costs_no_fault_and_is_sent_once(
    tracker: TrackerConfig,
) -> None:
    guest, gfns = tracked(tracker)
    guest.clean()
    before = guest.counters()
    run(guest, [write(PAGE)])
    guest.clear_log(np.array(gfns[:4]))
    assert guest.counters().faults == before.faults
    assert not set(gfns[:4]) & set(dirty(guest))  # sent now with its newest content, once
    assert set(gfns[4:]) <= set(dirty(guest))
    run(guest, [write(PAGE + 1)])
    assert gfns[1] in dirty(guest)
    if not tracker.pml:
        assert guest.counters().faults["fixup"] == before.faults["fixup"] + 1


@every_tracker
def test_others_of_the_chunk_are_left_alone(tracker: TrackerConfig) -> None:
    """They may have become dirty since the sync: who clears them would lose them."""
    guest, gfns = tracked(tracker)
    guest.clear_log(np.array(dirty(guest)))
    run(guest, [write(PAGE)])
    reported = log_dirty.frames_of(guest.clean().dirty).tolist()
    run(guest, [write(PAGE + 1)])
    guest.clear_log(np.array(reported))
    assert gfns[0] not in dirty(guest)
    assert gfns[1] in dirty(guest)


def test_clearing_costs_the_frames_that_were_dirty_and_one_flush() -> None:
    guest, gfns = tracked(TRACKERS[0])
    guest.clean()
    before = guest.counters().events
    guest.clear_log(np.array([*gfns[:3], 1000], np.int64))
    after = guest.counters().events
    assert after["write_protect_frame"] - before["write_protect_frame"] == 3
    assert after["tlb_flush"] - before["tlb_flush"] == 1
    guest.clear_log(np.array([1000]))
    assert guest.counters().events == after


def test_a_frame_that_the_filter_drops_is_logged_when_it_is_written() -> None:
    for paging in Paging:
        group = GroupPolicy(8, d_bit_filter=True)
        guest, gfns = tracked(TrackerConfig(paging, CleanPolicy.CLEAR_LOG, group=group))
        guest.clear_log(np.array(dirty(guest)))
        run(guest, [write(PAGE)])
        reported = set(log_dirty.frames_of(guest.clean().dirty).tolist())
        dropped = [i for i, gfn in enumerate(gfns) if gfn not in reported]
        assert dropped, paging
        run(guest, [write(PAGE + dropped[0])])
        assert gfns[dropped[0]] in dirty(guest), paging


def test_it_needs_logging_and_chunks_that_can_be() -> None:
    guest = boot(TRACKERS[0])
    with pytest.raises(IllegalTransition, match="not logged"):
        guest.clear_log(np.array([1]))
    with pytest.raises(BadOption, match="clear-log chunk of 100 frames"):
        TrackerConfig(clean=CleanPolicy.CLEAR_LOG, clear_chunk_frames=100)
