"""What the guest sees never depends on who translates its memory or who logs its writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from paging_core.config import (
    CLEAN_POLICIES,
    GroupPolicy,
    GroupScope,
    GuestTables,
    Paging,
    TrackerConfig,
)
from paging_core.errors import GuestOutOfMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.guest import ReferenceGuest
from tests.paging_core.reference.harness import (
    boot,
    content,
    move,
    operations,
    reference_of,
    registers,
    run,
    walker,
    wrong_pages,
)
from tests.paging_core.reference.programs import (
    HUGE_GUEST_FRAMES,
    HUGE_PAGE,
    NEAR_PAGES,
    Act,
    Op,
    Program,
    huge_programs,
    mmap,
    munmap,
    programs,
    read,
    trackers,
    write,
)

PLAIN = TrackerConfig(Paging.HAP)
PAGE = NEAR_PAGES[12]
FORK_1, SWITCH_0, SWITCH_1 = Op(ops.FORK, 1), Op(ops.SWITCH, 0), Op(ops.SWITCH, 1)


def same_guest(one: ModelGuest, other: ModelGuest) -> bool:
    differing = np.flatnonzero((one.memory.words != other.memory.words).any(axis=1))
    assert differing.tolist() == []
    return one.architectural_state() == other.architectural_state()


@given(programs(), trackers())
def test_every_page_of_every_process_holds_what_the_program_wrote(
    program: Program, tracker: TrackerConfig
) -> None:
    guest = boot(tracker)
    run(guest, [Act.START, *program])
    assert wrong_pages(guest, reference_of(program)) == []


@settings(max_examples=15)
@given(huge_programs(), trackers())
def test_superpages_hold_what_the_program_wrote(program: Program, tracker: TrackerConfig) -> None:
    guest = boot(tracker, HUGE_GUEST_FRAMES)
    run(guest, [Act.START, *program])
    assert wrong_pages(guest, reference_of(program)) == []


@given(programs(), trackers())
def test_memory_and_registers_are_those_of_an_untracked_guest(
    program: Program, tracker: TrackerConfig
) -> None:
    tracked, plain = boot(tracker), boot(PLAIN)
    run(tracked, [Act.START, *program])
    run(plain, list(operations(program)))
    assert same_guest(tracked, plain)


@settings(max_examples=15)
@given(huge_programs(), trackers())
def test_superpage_guests_are_those_of_an_untracked_guest(
    program: Program, tracker: TrackerConfig
) -> None:
    tracked, plain = boot(tracker, HUGE_GUEST_FRAMES), boot(PLAIN, HUGE_GUEST_FRAMES)
    run(tracked, [Act.START, *program])
    run(plain, list(operations(program)))
    assert same_guest(tracked, plain)


@given(programs(max_steps=30), programs(max_steps=30, acts=False), trackers())
def test_a_guest_that_moved_goes_on_like_its_twin_that_stayed(
    before: Program, after: Program, tracker: TrackerConfig
) -> None:
    stayed = boot(tracker)
    run(stayed, [Act.START, *before])
    moved = move(stayed)
    later = legal_after(before, after)
    run(stayed, later)
    run(moved, later)
    assert same_guest(stayed, moved)
    assert wrong_pages(moved, reference_of(before + later)) == []


def legal_after(before: Program, after: Program) -> Program:
    """The operations of `after` that are legal where `before` ended."""
    reference = reference_of(before)
    legal: Program = []
    for op in operations(after):
        alive = op.address in reference.processes
        if op.kind == ops.FORK and alive:
            continue
        if op.kind == ops.SWITCH and not alive:
            continue
        if op.kind == ops.EXIT and (not alive or op.address == reference.current):
            continue
        reference.step(op.kind, op.address, op.value, op.words)
        legal.append(op)
    return legal


def mapped(guest: ModelGuest, process: int = 0) -> set[int]:
    return {va >> 12 for va in content(guest, process)}


def test_mmap_populates_and_munmap_takes_away() -> None:
    guest = boot(PLAIN)
    run(guest, [mmap(PAGE, 5), munmap(PAGE + 1, 2)])
    assert mapped(guest) == {PAGE, PAGE + 3, PAGE + 4}
    assert set(content(guest, 0).values()) == {bytes(4096)}


def test_mmap_leaves_what_is_mapped_already() -> None:
    guest = boot(PLAIN)
    run(guest, [write(PAGE + 1, 5), mmap(PAGE, 3)])
    assert mapped(guest) == {PAGE, PAGE + 1, PAGE + 2}
    assert content(guest, 0)[(PAGE + 1) << 12][:8] == (5).to_bytes(8, "little")


def test_a_page_given_back_and_taken_again_is_zero() -> None:
    guest = boot(PLAIN)
    run(guest, [write(PAGE, -1, words=4), munmap(PAGE, 1), read(PAGE)])
    assert content(guest, 0) == {PAGE << 12: bytes(4096)}


def test_a_store_writes_consecutive_values() -> None:
    guest = boot(PLAIN)
    run(guest, [write(PAGE, 2**63 - 2, word=3, words=2)])
    page = content(guest, 0)[PAGE << 12]
    assert page[24:40] == (2**63 - 2).to_bytes(8, "little") + (2**63 - 1).to_bytes(8, "little")
    assert page.count(0) == 4096 - 16


@pytest.mark.parametrize("paging", Paging)
def test_fork_shares_frames_until_either_side_writes(paging: Paging) -> None:
    guest = boot(TrackerConfig(paging))
    run(guest, [write(PAGE, 1), write(PAGE + 1, 2), FORK_1])
    frames = [{va: leaf.gfn for va, leaf in walker(guest, p).leaves().items()} for p in (0, 1)]
    assert frames[0] == frames[1]
    run(guest, [SWITCH_1, write(PAGE, 3)])
    child = {va: leaf.gfn for va, leaf in walker(guest, 1).leaves().items()}
    assert {va >> 12 for va in child if child[va] != frames[0][va]} == {PAGE}
    assert content(guest, 0)[PAGE << 12][0] == 1
    assert content(guest, 1)[PAGE << 12][0] == 3


@pytest.mark.parametrize("paging", Paging)
def test_the_last_owner_of_a_shared_frame_keeps_it(paging: Paging) -> None:
    guest = boot(TrackerConfig(paging))
    run(guest, [write(PAGE, 1), FORK_1])
    frame = walker(guest).leaves()[PAGE << 12].gfn
    run(guest, [Op(ops.EXIT, 1), write(PAGE, 2)])
    leaf = walker(guest).leaves()[PAGE << 12]
    assert leaf.gfn == frame
    assert leaf.writable


@pytest.mark.parametrize("paging", Paging)
def test_accessed_and_dirty_bits_follow_loads_and_stores(paging: Paging) -> None:
    guest = boot(TrackerConfig(paging), tables=GuestTables.CLEAN)
    run(guest, [mmap(PAGE, 3), read(PAGE + 1), write(PAGE + 2)])
    leaves = walker(guest).leaves()
    bits = [(leaf.accessed, leaf.dirty) for _, leaf in sorted(leaves.items())]
    assert bits == [(False, False), (True, False), (True, True)]


def superpage_bits(guest: ModelGuest) -> tuple[bool, bool, bool]:
    leaf = walker(guest).leaves()[HUGE_PAGE << 12]
    return leaf.superpage, leaf.accessed, leaf.dirty


@pytest.mark.parametrize("paging", Paging)
def test_superpages_have_accessed_and_dirty_bits_of_their_own(paging: Paging) -> None:
    guest = boot(TrackerConfig(paging), HUGE_GUEST_FRAMES, tables=GuestTables.CLEAN)
    run(guest, [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)])
    assert superpage_bits(guest) == (True, False, False)
    run(guest, [read(HUGE_PAGE + 3)])
    assert superpage_bits(guest) == (True, True, False)
    run(guest, [write(HUGE_PAGE + 40)])
    assert superpage_bits(guest) == (True, True, True)


def test_superpages_are_mapped_where_small_pages_were_before() -> None:
    guest = boot(PLAIN, HUGE_GUEST_FRAMES)
    run(guest, [write(HUGE_PAGE + 3), munmap(HUGE_PAGE + 3, 1)])
    run(guest, [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)])
    assert mapped(guest) == set(range(HUGE_PAGE, HUGE_PAGE + 512))


@pytest.mark.parametrize("paging", Paging)
def test_a_guest_without_free_frames_says_so(paging: Paging) -> None:
    guest = boot(TrackerConfig(paging), 256)
    with pytest.raises(GuestOutOfMemory, match=r"no free frame in 1\.0 MiB; give it more memory"):
        run(guest, [mmap(PAGE, 300)])
    with pytest.raises(GuestOutOfMemory):
        run(guest, [write(PAGE)])


def test_a_guest_that_exits_processes_gets_all_its_frames_back() -> None:
    guest = boot(PLAIN, 256)
    run(guest, [mmap(PAGE, 60)])
    free = registers(guest)["free_frames"]
    for _ in range(20):
        run(guest, [FORK_1, SWITCH_1, *[write(PAGE + i) for i in range(60)]])
        run(guest, [SWITCH_0, Op(ops.EXIT, 1)])
    assert registers(guest)["free_frames"] == free


@pytest.mark.parametrize("paging", Paging)
def test_group_clean_and_log_options_do_not_reach_the_guest(paging: Paging) -> None:
    """One dense program under every combination that can be asked for."""
    program = dense_program()
    plain = boot(PLAIN)
    run(plain, program)
    assert wrong_pages(plain, reference_of(program)) == []
    for clean in CLEAN_POLICIES[paging]:
        for scope in GroupScope:
            for frames in (1, 16, 4096):
                tracker = TrackerConfig(paging, clean, group=GroupPolicy(frames, scope))
                guest = boot(tracker)
                run(guest, with_cleans(program))
                assert same_guest(guest, plain), tracker


def dense_program() -> Program:
    rng = np.random.default_rng(3)
    reference = ReferenceGuest()
    program: Program = [mmap(NEAR_PAGES[0], 40)]
    for page, choice in zip(rng.choice(NEAR_PAGES, 300), rng.integers(0, 100, 300), strict=True):
        if choice < 60:
            op = write(int(page), int(choice))
        elif choice < 90:
            op = read(int(page))
        elif choice < 93 and 1 not in reference.processes:
            op = FORK_1
        elif 1 in reference.processes:
            op = SWITCH_0 if reference.current else SWITCH_1
        else:
            op = munmap(int(page), 3)
        reference.step(op.kind, op.address, op.value, op.words)
        program.append(op)
    return program


def with_cleans(program: Program) -> Program:
    steps: Program = [Act.START]
    for i, step in enumerate(program):
        steps += [step, Act.CLEAN] if i % 17 == 16 else [step]
    return steps
