"""Every tracker against the set of frames that were really written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paging_core import log_dirty
from paging_core.config import CleanPolicy, GroupPolicy, GroupScope, Paging, TrackerConfig
from paging_core.errors import IllegalTransition
from paging_core.guest import Cleaned
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import (
    act,
    boot,
    dirty_now,
    get_and_clear,
    logging,
    move,
    operations,
    run,
    take,
    walker,
    written_by,
)
from tests.paging_core.reference.programs import (
    HUGE_GUEST_FRAMES,
    NEAR_PAGES,
    Act,
    Op,
    Program,
    groups,
    huge_programs,
    mmap,
    programs,
    read,
    trackers,
    write,
)
from tests.paging_core.reference.tracker import WrittenFrames

PAGE = NEAR_PAGES[12]
UNGROUPED = GroupPolicy()
FIXED_FAULTS = ("read_build", "write_build", "write_protect")
"""What Xen counts: sh_page_fault leaves for an emulation before it counts (multi.c)."""
SHADOW_FAULTS = (*FIXED_FAULTS, "emulated_write")


def epochs(guest: ModelGuest, program: Program) -> Iterator[tuple[set[int], Cleaned]]:
    """Run a program under tracking; what was written and what was reported, clean by clean."""
    truth = WrittenFrames()
    guest.start_tracking()
    for step in [*program, Act.CLEAN]:
        if isinstance(step, Op):
            truth.write(written_by(guest, step))
            assert truth.written <= dirty_now(guest)
        elif step is Act.CLEAN:
            yield truth.clean(), get_and_clear(guest)
        elif step is Act.PEEK:
            guest.peek()
        else:
            guest.stop_tracking()
            guest.start_tracking()
            truth.clean()


def reported(cleaned: Cleaned) -> set[int]:
    return set(log_dirty.frames_of(cleaned.dirty).tolist())


@given(programs(), trackers())
def test_no_write_is_missing_from_the_bitmap(program: Program, tracker: TrackerConfig) -> None:
    for written, cleaned in epochs(boot(tracker), program):
        assert written <= reported(cleaned)
        assert cleaned.falsely_dirty_count == len(reported(cleaned) - written)


@given(programs(), trackers())
def test_a_clean_tells_the_frames_and_groups_that_were_written(
    program: Program, tracker: TrackerConfig
) -> None:
    for written, cleaned in epochs(boot(tracker), program):
        assert cleaned.written is not None
        assert cleaned.written.frames == len(written)
        for n, touched in zip((4, 16, 64, 512), cleaned.written.groups, strict=True):
            assert touched == len({gfn // n for gfn in written})


@settings(max_examples=15)
@given(huge_programs(), trackers())
def test_no_write_to_a_superpage_is_missing(program: Program, tracker: TrackerConfig) -> None:
    for written, cleaned in epochs(boot(tracker, HUGE_GUEST_FRAMES), program):
        assert written <= reported(cleaned)
        assert cleaned.falsely_dirty_count == len(reported(cleaned) - written)


@given(programs(), trackers(group=st.just(UNGROUPED)))
def test_without_groups_exactly_the_written_frames_are_dirty(
    program: Program, tracker: TrackerConfig
) -> None:
    for written, cleaned in epochs(boot(tracker), program):
        assert reported(cleaned) == written


@settings(max_examples=15)
@given(huge_programs(), trackers(group=st.just(UNGROUPED)))
def test_without_groups_superpages_are_tracked_frame_by_frame(
    program: Program, tracker: TrackerConfig
) -> None:
    for written, cleaned in epochs(boot(tracker, HUGE_GUEST_FRAMES), program):
        assert reported(cleaned) == written


@given(programs(), trackers(group=groups(d_bit_filter=False)))
def test_a_clean_counts_what_flipped_and_every_shadow_fault_that_was_fixed(
    program: Program, tracker: TrackerConfig
) -> None:
    guest = boot(tracker)
    guest.start_tracking()
    faults_before = 0
    for step in [*program, Act.CLEAN]:
        if step in {Act.START, Act.STOP}:
            continue
        if step is not Act.CLEAN:
            take(guest, step)
            continue
        dirty = dirty_now(guest)
        cleaned = get_and_clear(guest)
        faults = sum(guest.counters().faults[kind] for kind in FIXED_FAULTS)
        assert cleaned.dirty_count == len(dirty) == len(reported(cleaned))
        assert cleaned.fault_count == faults - faults_before
        faults_before = faults


@given(programs(), trackers(paging=Paging.HAP))
def test_hap_has_no_shadow_faults_to_count(program: Program, tracker: TrackerConfig) -> None:
    guest = boot(tracker)
    for _, cleaned in epochs(guest, program):
        assert cleaned.fault_count == 0
    faults = guest.counters().faults
    assert sum(faults[kind] for kind in SHADOW_FAULTS) == 0


@given(programs(), trackers(paging=Paging.SHADOW))
def test_shadow_paging_takes_none_of_the_exits_of_hap(
    program: Program, tracker: TrackerConfig
) -> None:
    guest = boot(tracker)
    run(guest, [Act.START, *program])
    faults = guest.counters().faults
    assert faults["p2m_violation"] == faults["misconfiguration"] == faults["pml_full"] == 0


@given(programs(), trackers())
def test_peeking_changes_nothing(program: Program, tracker: TrackerConfig) -> None:
    """Two guests, one peeked at after every step: same bitmaps, faults and memory."""
    quiet, watched = boot(tracker), boot(tracker)
    for step in [Act.START, *(s for s in program if s is not Act.PEEK), Act.CLEAN]:
        if step is Act.CLEAN and logging(quiet):
            assert same_clean(get_and_clear(quiet), get_and_clear(watched))
        else:
            take(quiet, step)
            take(watched, step)
        act(watched, Act.PEEK)
        act(watched, Act.PEEK)
    assert (quiet.memory.words == watched.memory.words).all()
    assert faults_but_pml(quiet) == faults_but_pml(watched)


def same_clean(one: Cleaned, other: Cleaned) -> bool:
    assert (one.dirty == other.dirty).all()
    return (one.dirty_count, one.fault_count, one.falsely_dirty_count) == (
        other.dirty_count,
        other.fault_count,
        other.falsely_dirty_count,
    )


def faults_but_pml(guest: ModelGuest) -> dict[str, int]:
    # A peek drains the log of the hardware (Xen does too), so fewer exits find it full.
    ignored = {"pml_full", "total"}
    return {kind: n for kind, n in guest.counters().faults.items() if kind not in ignored}


@given(programs(), trackers(group=st.just(UNGROUPED)))
def test_a_group_of_one_is_the_ungrouped_tracker_in_everything(
    program: Program, tracker: TrackerConfig
) -> None:
    ungrouped = boot(tracker)
    outcomes = list(epochs(ungrouped, program))
    for scope in GroupScope:
        for d_bit_filter in (False, True):
            group = GroupPolicy(1, scope, d_bit_filter)
            guest = boot(replace(tracker, group=group))
            for (_, here), (_, there) in zip(epochs(guest, program), outcomes, strict=True):
                assert same_clean(here, there)
                assert here.cost_ns == there.cost_ns
            assert guest.counters() == ungrouped.counters()
            assert guest.time_ns == ungrouped.time_ns
            assert (guest.memory.words == ungrouped.memory.words).all()


@given(programs(), trackers())
def test_two_runs_are_the_same_run(program: Program, tracker: TrackerConfig) -> None:
    one, two = boot(tracker), boot(tracker)
    for (written, here), (_, there) in zip(epochs(one, program), epochs(two, program), strict=True):
        assert same_clean(here, there)
        assert written <= reported(there)
    assert one.counters() == two.counters()
    assert one.state() == two.state()
    assert (one.memory.words == two.memory.words).all()


@given(programs(), trackers())
def test_a_guest_taken_over_is_tracked_like_any_other(
    program: Program, tracker: TrackerConfig
) -> None:
    guest = boot(tracker)
    run(guest, [mmap(PAGE, 8), write(PAGE), read(PAGE + 1)])
    for written, cleaned in epochs(move(guest), program):
        assert written <= reported(cleaned)
        if not tracker.group.groups:
            assert reported(cleaned) == written


@given(programs(acts=False), trackers())
def test_once_stopped_a_guest_pays_for_no_more_fixups_and_rebuilds(
    program: Program, tracker: TrackerConfig
) -> None:
    guest = boot(tracker)
    run(guest, [Act.START, *program, Act.STOP])
    paid = guest.counters().tracking_ns
    accesses = {ops.READ, ops.WRITE, ops.REWRITE}
    run(guest, [op for op in operations(program) if op.kind in accesses])
    still_paid = {c for c, ns in guest.counters().tracking_ns.items() if ns != paid[c]}
    assert still_paid <= {"tlb", "p2m"}  # what the last flush and re-arming took away


ALL_TRACKERS = [
    TrackerConfig(Paging.SHADOW, CleanPolicy.BLOW),
    TrackerConfig(Paging.SHADOW, CleanPolicy.WRITE_PROTECT),
    TrackerConfig(Paging.SHADOW, CleanPolicy.BLOW, out_of_sync=False),
    TrackerConfig(Paging.HAP, CleanPolicy.LAZY),
    TrackerConfig(Paging.HAP, CleanPolicy.EAGER),
    TrackerConfig(Paging.HAP, CleanPolicy.LAZY, pml=True),
    TrackerConfig(Paging.HAP, CleanPolicy.EAGER, pml=True),
]


def tracker_id(tracker: TrackerConfig) -> str:
    options = [name for name in ("pml", "out_of_sync") if getattr(tracker, name)]
    return "-".join([tracker.paging, tracker.clean_policy, *options])


every_tracker = pytest.mark.parametrize("tracker", ALL_TRACKERS, ids=tracker_id)


@every_tracker
def test_logging_starts_once_and_needs_to_have_started(tracker: TrackerConfig) -> None:
    guest = boot(tracker, 256)
    for verb in (guest.clean, guest.peek):
        with pytest.raises(IllegalTransition, match="start tracking first"):
            verb()
    guest.start_tracking()
    with pytest.raises(IllegalTransition, match="being logged already"):
        guest.start_tracking()
    guest.stop_tracking()
    guest.stop_tracking()
    with pytest.raises(IllegalTransition):
        get_and_clear(guest)


@every_tracker
def test_writes_before_logging_started_are_not_reported(tracker: TrackerConfig) -> None:
    guest = boot(tracker, 256)
    run(guest, [write(PAGE), Act.START])
    assert dirty_now(guest) == set()
    run(guest, [Act.STOP, write(PAGE), Act.START])
    assert dirty_now(guest) == set()


@every_tracker
def test_each_epoch_reports_its_own_writes(tracker: TrackerConfig) -> None:
    guest = boot(tracker, 256)
    run(guest, [write(PAGE), write(PAGE + 1), Act.START, write(PAGE)])
    first = reported(get_and_clear(guest))
    run(guest, [write(PAGE + 1)])
    second = reported(get_and_clear(guest))
    assert len(first) == len(second) == 1
    assert first != second
    run(guest, [read(PAGE), read(PAGE + 1)])
    assert reported(get_and_clear(guest)) == set()


@every_tracker
def test_a_silent_store_is_a_write(tracker: TrackerConfig) -> None:
    guest = boot(tracker, 256)
    run(guest, [write(PAGE), Act.START, Op(ops.REWRITE, PAGE << 12)])
    assert len(reported(get_and_clear(guest))) == 1


@every_tracker
def test_a_frame_mapped_twice_is_logged_whichever_way_it_is_written(
    tracker: TrackerConfig,
) -> None:
    """User store, then the guest kernel's own store to the same frame through its direct map."""
    guest = boot(tracker, 256)
    run(guest, [write(PAGE), Op(ops.FORK, 1), write(PAGE, 2), Act.START])
    run(guest, [Op(ops.SWITCH, 1), write(PAGE, 3)])  # the sole owner: no copy, the entry changes
    assert len(reported(get_and_clear(guest)) & user_frames(guest)) == 1
    run(guest, [Op(ops.SWITCH, 0), Op(ops.EXIT, 1), write(PAGE, 4)])
    assert len(reported(get_and_clear(guest)) & user_frames(guest)) == 1


def user_frames(guest: ModelGuest) -> set[int]:
    return {leaf.gfn for leaf in walker(guest).leaves().values()}


@every_tracker
def test_table_edits_of_the_guest_are_logged(tracker: TrackerConfig) -> None:
    guest = boot(tracker, 256)
    run(guest, [write(PAGE), Act.START])
    written = written_by(guest, mmap(PAGE + 1, 1))
    assert len(written) >= 3  # the page, the table that maps it, its reference count
    assert reported(get_and_clear(guest)) == written


def test_a_full_log_of_the_hardware_exits_and_loses_nothing() -> None:
    guest = boot(TrackerConfig(Paging.HAP, pml=True), 1024)
    run(guest, [mmap(0x400, 700), *[write(0x400 + i) for i in range(700)], Act.START])
    run(guest, [write(0x400 + i, 3) for i in range(700)])
    faults = guest.counters().faults
    assert (faults["pml_full"], faults["p2m_violation"]) == (1, 2)  # two superpages to split
    assert len(reported(get_and_clear(guest))) == 700
    assert dirty_now(guest) == set()


def test_bitmaps_are_as_long_as_the_guest() -> None:
    guest = boot(TrackerConfig(), 260)
    run(guest, [Act.START])
    assert guest.peek().shape == get_and_clear(guest).dirty.shape == (5,)
    assert guest.peek().dtype == np.uint64
