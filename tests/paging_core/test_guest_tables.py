"""The guest's kernel as Linux is: what its entries say, and what the hypervisor pays for them."""

from __future__ import annotations

import pytest
from hypothesis import given

from paging_core.boot import Layout
from paging_core.config import GuestConfig, GuestTables, Paging, TrackerConfig
from paging_core.costs import CostTable
from paging_core.errors import InvalidInput
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import (
    ZERO_FRAME,
    Silent,
    boot,
    content,
    move,
    operations,
    registers,
    roots,
    run,
    walker,
)
from tests.paging_core.reference.linux_tables import LinuxTables
from tests.paging_core.reference.programs import (
    FAR_PAGES,
    HUGE_GUEST_FRAMES,
    HUGE_PAGE,
    Act,
    Op,
    Program,
    mmap,
    munmap,
    programs,
    read,
    trackers,
    write,
)
from tests.paging_core.reference.walker import ACCESSED, DIRTY, Leaf
from tests.paging_core.test_costs_hand_worked import PAGE, PRICES

FORK_1, TO_0, TO_1, EXIT_1 = (
    Op(ops.FORK, 1),
    Op(ops.SWITCH, 0),
    Op(ops.SWITCH, 1),
    Op(ops.EXIT, 1),
)


def leaf(guest: ModelGuest, page: int, process: int = 0) -> Leaf:
    return walker(guest, process).leaves()[page << 12]


def bits(found: Leaf) -> tuple[bool, bool, bool]:
    return found.writable, found.accessed, found.dirty


@given(programs(), trackers())
def test_every_leaf_is_what_linux_would_have(program: Program, tracker: TrackerConfig) -> None:
    """Writable, young, dirty, and who shares frames with whom, of every page and process."""
    guest, linux = boot(tracker), LinuxTables()
    run(guest, [Act.START, *program])
    for op in operations(program):
        linux.step(op)
    frames: dict[int, int] = {0: ZERO_FRAME}
    assert set(roots(guest)) == set(linux.processes)
    for process, entries in linux.processes.items():
        leaves = walker(guest, process).leaves()
        assert {va >> 12 for va in leaves} == set(entries)
        for va, found in leaves.items():
            entry = entries[va >> 12]
            assert bits(found) == (entry.writable, entry.young, entry.dirty)
            assert frames.setdefault(entry.frame, found.gfn) == found.gfn
    assert len(set(frames.values())) == len(frames)


@given(programs(), trackers())
def test_cr3_is_loaded_and_pages_invalidated_when_linux_would(
    program: Program, tracker: TrackerConfig
) -> None:
    """Counted in plain Python; each exits under shadow paging, the twin's too, none under HAP."""
    guest, linux = boot(tracker), LinuxTables()
    guest.keep_twin()
    guest.start_tracking()
    run(guest, [step for step in program if step is not Act.START and step is not Act.STOP])
    for op in operations(program):
        linux.step(op)
    expected = {"cr3_load": linux.cr3_loads, "invlpg": linux.invlpgs}
    if tracker.paging is Paging.HAP:
        expected = {"cr3_load": 0, "invlpg": 0}
    by = guest.counters().events_by
    for events in (by.get("base", {}), by.get("untracked", {})):
        assert {name: events.get(name, 0) for name in expected} == expected


@pytest.mark.parametrize(("pages", "invlpg", "cr3_load"), [(33, 33, 0), (34, 0, 1), (512, 0, 1)])
def test_more_than_33_pages_are_flushed_by_loading_cr3(
    pages: int, invlpg: int, cr3_load: int
) -> None:
    guest = boot(TrackerConfig(), 1024)
    run(guest, [mmap(PAGE, pages)])
    before = guest.counters().events
    run(guest, [munmap(PAGE, pages)])
    after = guest.counters().events
    assert after["invlpg"] - before["invlpg"] == invlpg
    assert after["cr3_load"] - before["cr3_load"] == cr3_load


def test_a_superpage_is_flushed_by_one_invlpg_and_all_of_it_is() -> None:
    """What is cached of it are translations of 4 KiB: none of them may be used any more."""
    guest = boot(TrackerConfig(Paging.HAP), HUGE_GUEST_FRAMES)
    run(guest, [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)])
    run(guest, [write(HUGE_PAGE + i, 7) for i in (0, 100, 511)])
    before = guest.counters().events["guest_fault"]
    run(guest, [munmap(HUGE_PAGE, 512), *[read(HUGE_PAGE + i) for i in (0, 100, 511)]])
    assert guest.counters().events["guest_fault"] == before + 3
    guest = boot(TrackerConfig(), HUGE_GUEST_FRAMES)
    run(guest, [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512), munmap(HUGE_PAGE, 512)])
    assert guest.counters().events["invlpg"] == 1


@pytest.mark.parametrize("paging", Paging)
def test_tables_are_born_accessed_and_dirty(paging: Paging) -> None:
    """_PAGE_TABLE and the direct map's PAGE_KERNEL have A and D; nobody has walked FAR_PAGES."""
    guest = boot(TrackerConfig(paging))
    run(guest, [mmap(FAR_PAGES[0], 1)])
    layout = Layout(guest.n_frames)
    tables = [t for t in walker(guest).tables() if not layout.kernel_table <= t.gfn < layout.root]
    entries = [entry for t in tables for _, entry, _ in walker(guest).entries(t)]
    kernel = guest.memory.words[layout.kernel_table : layout.root].ravel().tolist()
    for entry in [*entries, *(word for word in kernel if word)]:
        assert entry & (ACCESSED | DIRTY) == ACCESSED | DIRTY


def test_a_read_of_a_fresh_page_takes_no_frame() -> None:
    guest = boot(TrackerConfig(Paging.HAP))
    run(guest, [write(PAGE), write(PAGE, 0)])
    before = registers(guest)["free_frames"]
    run(guest, [read(PAGE + i) for i in range(1, 100)])
    assert registers(guest)["free_frames"] == before
    assert {leaf(guest, PAGE + i).gfn for i in range(1, 100)} == {ZERO_FRAME}
    run(guest, [write(PAGE + 7, 5)])
    assert registers(guest)["free_frames"] == before - 1
    assert content(guest, 0)[PAGE + 8 << 12] == bytes(4096)


def test_the_zero_page_is_cleared_for_its_writer_and_not_copied() -> None:
    guest = boot(TrackerConfig(Paging.HAP))
    run(guest, [write(PAGE), read(PAGE + 1)])
    before = guest.counters().events
    run(guest, [write(PAGE + 1)])
    after = guest.counters().events
    changed = {name: after[name] - before[name] for name in ("guest_fault", "guest_page_copy")}
    assert changed == {"guest_fault": 1, "guest_page_copy": 0}
    assert after["guest_page_clear"] == before["guest_page_clear"] + 1


def test_the_zero_page_may_be_mapped_more_often_than_there_are_frames() -> None:
    guest = boot(TrackerConfig(Paging.HAP), 256)
    run(guest, [write(PAGE)])
    free = registers(guest)["free_frames"]
    run(guest, [read(PAGE + i) for i in range(2000)])
    run(guest, [FORK_1, TO_1, read(PAGE + 1500), TO_0, EXIT_1, munmap(PAGE + 1, 1999)])
    assert registers(guest)["free_frames"] == free - 3  # of the tables of 2000 pages one was there
    run(move(guest), [read(PAGE + 3)])


def test_a_guest_whose_zero_page_holds_something_is_refused() -> None:
    guest = boot(TrackerConfig(Paging.HAP))
    run(guest, [read(PAGE)])
    move(guest)
    guest.memory.words[ZERO_FRAME, 100] = 1
    with pytest.raises(InvalidInput, match="its zero page holds something"):
        move(guest)


def test_a_guest_that_may_write_its_zero_page_is_refused() -> None:
    guest = boot(TrackerConfig(Paging.HAP))
    run(guest, [read(PAGE)])
    found = leaf(guest, PAGE)
    guest.memory.words[found.table, found.slot] = 0x67  # present, writable, user, A, D
    with pytest.raises(InvalidInput, match="lead out of its memory"):
        move(guest)


def faults_of(tables: GuestTables, program: Program, *, prefetch: bool = False) -> dict[str, int]:
    """Faults of an untracked guest that mapped four pages elsewhere."""
    tracker = TrackerConfig(prefetch=prefetch)
    costs = CostTable(PRICES)
    config = GuestConfig(512 * 4096, tracker, "silent", costs=costs, guest_tables=tables)
    elsewhere = ModelGuest.boot(config, workload=Silent())
    run(elsewhere, [mmap(PAGE, 4)])
    guest = move(elsewhere)
    run(guest, program)
    return {kind: n for kind, n in guest.counters().faults.items() if n and kind != "total"}


def test_a_page_that_is_read_and_then_written_takes_one_shadow_fault() -> None:
    """With D clear a shadow entry is read-only (_sh_propagate, multi.c): the write faults again."""
    program: Program = [read(PAGE), write(PAGE)]
    assert faults_of(GuestTables.LINUX, program) == {"read_build": 1}
    assert faults_of(GuestTables.CLEAN, program) == {"read_build": 1, "write_protect": 1}


def test_a_prefetch_goes_on_over_pages_that_were_only_mapped() -> None:
    """It stops at an entry with A clear, or writable with D clear (sh_prefetch, multi.c)."""
    program: Program = [write(PAGE + i) for i in range(4)]
    assert faults_of(GuestTables.LINUX, program, prefetch=True) == {"write_build": 1}
    assert faults_of(GuestTables.CLEAN, program, prefetch=True) == {"write_build": 4}
