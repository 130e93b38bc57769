"""Shadows at every moment: counted, pooled, never more permissive than the guest's tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestTables,
    Paging,
    ShadowMmu,
    TrackerConfig,
)
from paging_core.model_guest import ModelGuest
from paging_core.shadow_view import ShadowView
from paging_core.workloads import ops
from tests.paging_core.reference.harness import act, boot, dirty_now, logging, registers, run, take
from tests.paging_core.reference.programs import (
    FAR_PAGES,
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
from tests.paging_core.reference.shadows import ShadowChecker

PAGE = NEAR_PAGES[12]
CHECK_EVERY = 5


def checker(guest: ModelGuest) -> ShadowChecker:
    dirty = dirty_now(guest) if logging(guest) else None
    return ShadowChecker(ShadowView(guest), guest.memory.words, dirty)


def check_along(guest: ModelGuest, program: Program) -> None:
    """Run a program, looking at the shadows after every act and every few operations."""
    for i, step in enumerate(program):
        take(guest, step)
        if isinstance(step, Act) or i % CHECK_EVERY == 0:
            assert checker(guest).complaints() == []
    assert checker(guest).complaints() == []


@given(programs(), trackers(paging=Paging.SHADOW, mmu=ShadowMmu.XEN))
def test_shadows_are_in_order_at_every_moment(program: Program, tracker: TrackerConfig) -> None:
    check_along(boot(tracker), [Act.START, *program])


@settings(max_examples=20)
@given(huge_programs(), trackers(paging=Paging.SHADOW, mmu=ShadowMmu.XEN))
def test_shadows_of_superpages_are_in_order_at_every_moment(
    program: Program, tracker: TrackerConfig
) -> None:
    check_along(boot(tracker, HUGE_GUEST_FRAMES), [Act.START, *program])


@given(programs(), trackers(paging=Paging.SHADOW, clean=CleanPolicy.BLOW, mmu=ShadowMmu.XEN))
def test_a_blow_leaves_only_empty_roots_in_use(program: Program, tracker: TrackerConfig) -> None:
    guest = boot(tracker)
    run(guest, [Act.START, *program, Act.START])
    act(guest, Act.CLEAN)
    assert checker(guest).blown() == []


@given(
    programs(), trackers(paging=Paging.SHADOW, clean=CleanPolicy.WRITE_PROTECT, mmu=ShadowMmu.XEN)
)
def test_write_protecting_keeps_every_shadow(program: Program, tracker: TrackerConfig) -> None:
    guest = boot(tracker)
    run(guest, [Act.START, *program, Act.START])
    before = mapped_slots(guest)
    act(guest, Act.CLEAN)
    assert mapped_slots(guest) == before - slots_of_out_of_sync_tables(guest, before)
    assert not any(entry[3] for entry in leaves(guest))


def leaves(guest: ModelGuest) -> list[tuple[int, int, int, bool]]:
    view = ShadowView(guest)
    return [
        (page.index, entry.slot, entry.target, entry.writable)
        for page in view.pages()
        if page.kind in {"l1", "fl1"}
        for entry in view.entries(page.index)
    ]


def mapped_slots(guest: ModelGuest) -> set[tuple[int, int, int]]:
    return {(page, slot, gfn) for page, slot, gfn, _ in leaves(guest)}


def slots_of_out_of_sync_tables(
    guest: ModelGuest, before: set[tuple[int, int, int]]
) -> set[tuple[int, int, int]]:
    """Entries that a clean drops because their guest entry had changed unseen."""
    if not guest.config.tracker.out_of_sync:
        return set()
    return before - mapped_slots(guest)


def kinds(guest: ModelGuest) -> dict[str, int]:
    counts = dict.fromkeys(("l4", "l3", "l2", "l1", "fl1"), 0)
    for page in ShadowView(guest).pages():
        counts[page.kind] += 1
    return counts


def test_one_access_builds_one_path() -> None:
    guest = boot(TrackerConfig(prefetch=False), 256)
    run(guest, [mmap(PAGE, 1), Act.START])
    assert kinds(guest) == {"l4": 1, "l3": 0, "l2": 0, "l1": 0, "fl1": 0}
    run(guest, [read(PAGE)])
    assert kinds(guest) == {"l4": 1, "l3": 1, "l2": 1, "l1": 1, "fl1": 0}
    assert len(leaves(guest)) == 1


def test_a_superpage_is_shadowed_by_a_table_that_the_guest_does_not_have() -> None:
    guest = boot(TrackerConfig(prefetch=False), HUGE_GUEST_FRAMES)
    run(guest, [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512), Act.START, read(HUGE_PAGE + 7)])
    assert kinds(guest) == {"l4": 1, "l3": 1, "l2": 1, "l1": 0, "fl1": 1}


def test_pages_of_one_table_share_its_shadow_and_others_get_their_own() -> None:
    guest = boot(TrackerConfig(prefetch=False), 256)
    run(guest, [mmap(0x1FE, 4), mmap(FAR_PAGES[0], 1), Act.START])
    run(guest, [read(0x1FE), read(0x1FF), read(0x200), read(FAR_PAGES[0])])
    assert kinds(guest) == {"l4": 1, "l3": 2, "l2": 2, "l1": 3, "fl1": 0}


def test_a_read_of_a_clean_frame_is_mapped_read_only_until_it_is_written() -> None:
    guest = boot(TrackerConfig(prefetch=False), 256)
    run(guest, [write(PAGE), Act.START, read(PAGE)])
    assert [entry[3] for entry in leaves(guest)] == [False]
    run(guest, [write(PAGE)])
    assert [entry[3] for entry in leaves(guest)] == [True]


def test_a_frame_dirty_in_this_round_is_mapped_writable_by_a_read() -> None:
    guest = boot(TrackerConfig(prefetch=False), 256)
    run(guest, [write(PAGE), Op(ops.FORK, 1), write(PAGE + 1)])
    run(guest, [Act.START, write(PAGE + 1), Op(ops.SWITCH, 1), Op(ops.SWITCH, 0)])
    before = guest.counters().faults
    run(guest, [read(PAGE + 1), write(PAGE + 1)])
    assert guest.counters().faults["write_protect"] == before["write_protect"]


@pytest.mark.parametrize(("first", "mapped"), [(0, 32), (480, 32), (481, 31), (510, 2), (511, 1)])
def test_prefetch_maps_31_more_entries_and_stops_at_the_end_of_the_table(
    first: int, mapped: int
) -> None:
    guest = boot(TrackerConfig(), 1024)
    pages = [0x400 + first + i for i in range(40)]
    run(guest, [write(page) for page in pages])
    run(guest, [Act.START, read(pages[0])])
    assert sorted(entry[1] for entry in leaves(guest)) == list(range(first, first + mapped))
    assert not any(entry[3] for entry in leaves(guest))


def test_prefetch_stops_at_a_guest_entry_that_was_never_used() -> None:
    guest = boot(TrackerConfig(), 512, tables=GuestTables.CLEAN)
    run(guest, [mmap(0x400, 20), *[write(0x400 + i) for i in range(20) if i != 5]])
    run(guest, [Act.START, read(0x400)])
    assert sorted(entry[1] for entry in leaves(guest)) == [0, 1, 2, 3, 4]


def test_prefetch_passes_over_holes() -> None:
    guest = boot(TrackerConfig(), 512)
    run(guest, [*[write(0x400 + i) for i in range(8)], munmap(0x402, 2)])
    run(guest, [Act.START, read(0x400)])
    assert sorted(entry[1] for entry in leaves(guest)) == [0, 1, 4, 5, 6, 7]


def test_prefetch_can_be_switched_off() -> None:
    guest = boot(TrackerConfig(prefetch=False), 512)
    run(guest, [*[write(0x400 + i) for i in range(8)], Act.START, read(0x400)])
    assert [entry[1] for entry in leaves(guest)] == [0]


def test_a_full_pool_evicts_and_goes_on() -> None:
    """64 tables of the guest through a pool of 32 shadows."""
    guest = boot(TrackerConfig(shadow_pool_frames=32), 1024)
    pages = [0x400 + 512 * i for i in range(64)]
    run(guest, [write(page) for page in pages])
    run(guest, [Act.START])
    for page in [*pages, *pages[::-1]]:
        run(guest, [write(page, 9)])
        assert ShadowView(guest).free_pages >= 0
    assert checker(guest).complaints() == []
    assert guest.counters().events["shadow_teardown_page"] > 64


def test_processes_in_a_small_pool_lose_their_roots_least_recently_pinned_first() -> None:
    guest = boot(TrackerConfig(shadow_pool_frames=32), 1024)
    program: Program = [write(0x400 + 512 * i) for i in range(8)]
    for process in (1, 2, 3):
        program += [Op(ops.FORK, process), Op(ops.SWITCH, process)]
        program += [write(0x400 + 512 * i) for i in range(8)]
        program += [Op(ops.SWITCH, 0)]
    check_along(guest, program)
    shadowed = [page.guest_frame for page in ShadowView(guest).pages() if page.kind == "l4"]
    assert registers(guest)["cr3"] in shadowed
    assert registers(guest)["roots"][1] not in shadowed


def test_tables_that_became_data_are_shadowed_no_more() -> None:
    guest = boot(TrackerConfig(), 256)
    run(guest, [write(0x400 + 512 * i) for i in range(6)])
    run(guest, [Op(ops.FORK, 1), Op(ops.SWITCH, 1), read(0x400), Op(ops.SWITCH, 0)])
    run(guest, [Op(ops.EXIT, 1), Act.START, mmap(0x10000, 80)])
    run(guest, [write(0x10000 + i) for i in range(80)])
    assert checker(guest).complaints() == []


@pytest.mark.parametrize("scope", GroupScope)
def test_frames_filtered_from_the_bitmap_are_protected_again(scope: GroupScope) -> None:
    policy = GroupPolicy(8, scope, d_bit_filter=True)
    tracker = TrackerConfig(Paging.SHADOW, CleanPolicy.WRITE_PROTECT, group=policy)
    guest = boot(tracker, 256)
    run(guest, [write(0x400 + i) for i in range(8)])
    run(guest, [Act.START, *[read(0x400 + i) for i in range(8)], write(0x403)])
    act(guest, Act.CLEAN)
    assert checker(guest).complaints() == []
