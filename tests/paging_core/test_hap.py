"""HAP worked by hand: superpages and their splits, lazy and eager re-arming, the PML."""

from __future__ import annotations

import pytest

from paging_core import log_dirty
from paging_core.config import (
    CLEAN_POLICIES,
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    MemoryFill,
    Paging,
    TrackerConfig,
)
from paging_core.model_guest import ModelGuest
from tests.paging_core.reference.harness import boot, get_and_clear, run, walker
from tests.paging_core.reference.programs import Act, Program, read, write

PAGE = 0x400
LAZY, EAGER = CleanPolicy.LAZY, CleanPolicy.EAGER


def hap(
    clean: CleanPolicy = LAZY, n_frames: int = 1024, *, group: int = 1, pml: bool = False
) -> ModelGuest:
    """A tracked guest with eight written pages and every table entry accessed and dirty."""
    policy = GroupPolicy(group, GroupScope.PHYSICAL)
    guest = boot(TrackerConfig(Paging.HAP, clean, pml=pml, group=policy), n_frames)
    run(guest, [write(PAGE + i) for i in range(8)])
    guest.start_tracking()
    return guest


def counted(guest: ModelGuest, program: Program) -> dict[str, int]:
    """How often the events of HAP happened while a program ran, zeros left out."""
    names = ("p2m_violation", "p2m_misconfig", "p2m_split", "p2m_rearm_entry", "mark_dirty", "exit")
    before = guest.counters().events
    run(guest, program)
    after = guest.counters().events
    return {name: after[name] - before[name] for name in names if after[name] != before[name]}


def test_a_write_violates_splits_and_marks_once() -> None:
    guest = hap(EAGER)
    first = {"p2m_violation": 1, "p2m_split": 1, "mark_dirty": 1, "exit": 1}
    assert counted(guest, [write(PAGE)]) == first
    assert counted(guest, [write(PAGE)]) == {}
    assert counted(guest, [write(PAGE + 1)]) == {"p2m_violation": 1, "mark_dirty": 1, "exit": 1}


@pytest.mark.parametrize("clean", CLEAN_POLICIES[Paging.HAP])
def test_reads_never_violate(clean: CleanPolicy) -> None:
    guest = hap(clean)
    assert "p2m_violation" not in counted(guest, [read(PAGE + i) for i in range(8)])
    assert not guest.peek().any()


def test_a_lazy_clean_touches_the_root_and_the_first_access_pays_for_the_table() -> None:
    """Both 2 MiB are superpages until the first write splits one of them."""
    guest = hap(LAZY)
    assert guest.counters().events["p2m_rearm_entry"] == 1
    assert counted(guest, [read(PAGE)]) == {"p2m_misconfig": 1, "exit": 1}
    assert counted(guest, [read(PAGE + 1)]) == {}
    run(guest, [write(PAGE)])
    assert counted(guest, [Act.CLEAN]) == {"p2m_rearm_entry": 1}
    table = {"p2m_misconfig": 1, "exit": 1, "p2m_rearm_entry": 512}
    assert counted(guest, [read(PAGE)]) == table


def test_an_eager_clean_rewrites_every_leaf_and_accesses_pay_nothing() -> None:
    guest = hap(EAGER)
    assert guest.counters().events["p2m_rearm_entry"] == 2
    run(guest, [write(PAGE)])
    assert counted(guest, [Act.CLEAN]) == {"p2m_rearm_entry": 513}
    assert counted(guest, [read(PAGE)]) == {}


def test_memory_at_the_end_that_fills_no_superpage_is_mapped_by_frames() -> None:
    guest = hap(EAGER, 512 + 7)
    assert guest.counters().events["p2m_rearm_entry"] == 1 + 7


@pytest.mark.parametrize(("group", "splits"), [(1, 1), (256, 1), (512, 0), (4096, 0)])
def test_groups_of_a_superpage_and_more_need_no_split(group: int, splits: int) -> None:
    guest = hap(EAGER, 1024, group=group)
    events = counted(guest, [write(PAGE)])
    assert events.get("p2m_split", 0) == splits
    assert log_dirty.count(guest.peek()) == min(group, 1024)


def test_a_gigabyte_page_is_split_level_by_level() -> None:
    n_frames = 2**18
    guest = boot(TrackerConfig(Paging.HAP, EAGER), n_frames, fill=MemoryFill.ZERO)
    run(guest, [write(PAGE), Act.START])
    assert guest.counters().events["p2m_rearm_entry"] == 1
    assert counted(guest, [write(PAGE)])["p2m_split"] == 2
    assert counted(guest, [Act.CLEAN]) == {"p2m_rearm_entry": 511 + 512}


def test_split_superpages_stay_split_after_a_clean() -> None:
    guest = hap(EAGER)
    run(guest, [write(PAGE), Act.CLEAN])
    assert counted(guest, [write(PAGE)]) == {"p2m_violation": 1, "mark_dirty": 1, "exit": 1}


def test_with_pml_only_the_split_of_a_superpage_violates() -> None:
    guest = hap(EAGER, pml=True)
    assert counted(guest, [write(PAGE)]) == {"p2m_violation": 1, "p2m_split": 1, "exit": 1}
    assert counted(guest, [write(PAGE + i) for i in range(8)]) == {}
    frames = log_dirty.frames_of(guest.clean().dirty)
    leaves = [walker(guest).translate((PAGE + i) << 12) for i in range(8)]
    assert frames.tolist() == sorted(leaf.gfn for leaf in leaves if leaf)
    assert guest.counters().events["pml_entry"] == 8


@pytest.mark.parametrize("clean", CLEAN_POLICIES[Paging.HAP])
def test_each_epoch_logs_a_frame_once_with_pml(clean: CleanPolicy) -> None:
    guest = hap(clean, pml=True)
    for epoch in range(1, 4):
        run(guest, [write(PAGE), write(PAGE), write(PAGE)])
        assert log_dirty.count(get_and_clear(guest).dirty) == 1
        assert guest.counters().events["pml_entry"] == epoch


@pytest.mark.parametrize("clean", CLEAN_POLICIES[Paging.HAP])
@pytest.mark.parametrize("pml", [False, True])
def test_after_logging_stopped_writes_cost_nothing_again(clean: CleanPolicy, pml: bool) -> None:
    guest = hap(clean, pml=pml)
    run(guest, [write(PAGE), Act.CLEAN, Act.STOP])
    events = counted(guest, [write(PAGE + i) for i in range(8)])
    assert "p2m_violation" not in events
    assert "mark_dirty" not in events
