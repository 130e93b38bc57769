"""Page groups: exactly which frames one fixup opens, worked by hand and by the rule.

docs/groups.md words the rules. Virtual: the aligned run of n shadow L1 entries around the
fault whose guest entries are present, accessed, writable and dirty. Physical: the aligned
run of n gfns. Frames shadowed as page tables are opened by neither.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core import log_dirty
from paging_core.config import (
    CLEAN_POLICIES,
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    Paging,
    TrackerConfig,
)
from paging_core.model_guest import ModelGuest
from paging_core.shadow_view import ShadowView
from paging_core.workloads import ops
from tests.paging_core.reference.harness import (
    act,
    boot,
    dirty_now,
    get_and_clear,
    move,
    run,
    walker,
    written_by,
)
from tests.paging_core.reference.programs import (
    HUGE_PAGE,
    Act,
    Op,
    Program,
    groups,
    mmap,
    munmap,
    programs,
    read,
    trackers,
    write,
)
from tests.paging_core.reference.tracker import (
    PhysicalGroups,
    WrittenFrames,
    run_of,
    runs_of,
)
from tests.paging_core.reference.walker import ACCESSED, DIRTY, PRESENT, WRITABLE, frame_of

BASE = 0x400
"""First page of an L1 table."""
N_PAGES = 80
VIRTUAL, PHYSICAL = GroupScope.VIRTUAL, GroupScope.PHYSICAL


def populated(
    frames: int,
    scope: GroupScope,
    *,
    paging: Paging = Paging.SHADOW,
    clean: CleanPolicy | None = None,
    d_bit_filter: bool = False,
    pages: list[int] | None = None,
    n_frames: int = 512,
) -> ModelGuest:
    """A tracked guest whose pages are all accessed and dirty, with no shadow left of before.

    It has moved from another host: nothing but its tables says what it did.
    """
    group = GroupPolicy(frames, scope, d_bit_filter)
    guest = boot(TrackerConfig(paging, clean, group=group, prefetch=False), n_frames)
    run(guest, [write(page) for page in pages or range(BASE, BASE + N_PAGES)])
    guest = move(guest)
    guest.start_tracking()
    return guest


def frame(guest: ModelGuest, page: int) -> int:
    leaf = walker(guest).translate(page << 12)
    assert leaf is not None
    return leaf.gfn


def frames(guest: ModelGuest, pages: range | list[int]) -> set[int]:
    return {frame(guest, page) for page in pages}


def tables(guest: ModelGuest) -> set[int]:
    return {page.guest_frame for page in ShadowView(guest).pages() if page.kind != "fl1"}


def cleaned(guest: ModelGuest) -> set[int]:
    return set(log_dirty.frames_of(get_and_clear(guest).dirty).tolist())


@pytest.mark.parametrize(
    ("n", "written", "opened"),
    [
        (1, 5, range(5, 6)),
        (2, 5, range(4, 6)),
        (8, 5, range(8)),
        (8, 8, range(8, 16)),
        (64, 63, range(64)),
        (64, 64, range(64, 80)),
        (512, 0, range(80)),
        (1024, 0, range(80)),
        (4096, 79, range(80)),
    ],
)
def test_a_virtual_group_is_an_aligned_run_of_entries(n: int, written: int, opened: range) -> None:
    guest = populated(n, VIRTUAL)
    run(guest, [write(BASE + written)])
    assert dirty_now(guest) == frames(guest, [BASE + i for i in opened])


def test_a_virtual_group_opens_only_what_a_prefetch_for_writing_could_install() -> None:
    """Written · never mapped · only mapped · only read · cow · the fault · written · written."""
    guest = boot(TrackerConfig(group=GroupPolicy(8, VIRTUAL), prefetch=False))
    run(guest, [write(BASE), mmap(BASE + 2, 1), mmap(BASE + 3, 1), read(BASE + 3)])
    run(guest, [write(BASE + i) for i in (4, 5, 6, 7)])
    run(guest, [Op(ops.FORK, 1), *[write(BASE + i) for i in (0, 5, 6, 7)]])
    guest = move(guest)
    run(guest, [Act.START, write(BASE + 5)])
    assert dirty_now(guest) == frames(guest, [BASE + i for i in (0, 5, 6, 7)])


def test_neighbours_of_a_virtual_group_take_no_fault_when_they_are_written() -> None:
    guest = populated(8, VIRTUAL)
    run(guest, [write(BASE + 3)])
    before = guest.counters().faults
    run(guest, [write(BASE + i) for i in range(8)])
    assert guest.counters().faults == before
    run(guest, [write(BASE + 8)])
    assert guest.counters().faults["fixup"] == before["fixup"] + 1


def test_a_virtual_group_ends_at_its_table_up_to_512_entries() -> None:
    pages = [*range(BASE - 8, BASE), *range(BASE, BASE + 8)]
    guest = populated(512, VIRTUAL, pages=pages)
    run(guest, [read(BASE - 1), write(BASE)])
    assert dirty_now(guest) == frames(guest, range(BASE, BASE + 8))


def test_above_512_a_virtual_group_takes_neighbouring_tables_that_are_shadowed() -> None:
    """Tables at slots 2, 3 and 5 of the L2; a group of 1024 is two tables, 4096 is eight."""
    pages = [BASE, BASE + 1, BASE + 512, BASE + 513, BASE + 3 * 512]
    guest = populated(1024, VIRTUAL, pages=pages)
    run(guest, [write(BASE)])
    assert dirty_now(guest) == frames(guest, [BASE, BASE + 1])  # slot 3 has no shadow yet
    guest = populated(1024, VIRTUAL, pages=pages)
    run(guest, [read(BASE + 512), read(BASE + 3 * 512), write(BASE)])
    assert dirty_now(guest) == frames(guest, pages[:4])
    guest = populated(4096, VIRTUAL, pages=pages)
    run(guest, [read(BASE + 512), read(BASE + 3 * 512), write(BASE)])
    assert dirty_now(guest) == frames(guest, pages)


def test_a_virtual_group_within_a_superpage_is_a_run_of_its_frames() -> None:
    guest = boot(TrackerConfig(group=GroupPolicy(16, VIRTUAL), prefetch=False), 1536)
    run(guest, [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512), write(HUGE_PAGE)])
    guest = move(guest)
    run(guest, [Act.START, write(HUGE_PAGE + 20)])
    assert dirty_now(guest) == frames(guest, range(HUGE_PAGE + 16, HUGE_PAGE + 32))


def test_in_virtual_groups_a_frame_mapped_twice_is_opened_where_the_fault_was() -> None:
    """Parent and child share a frame read-only; groups never open what the guest may not write."""
    guest = boot(TrackerConfig(group=GroupPolicy(8, VIRTUAL), prefetch=False))
    run(guest, [*[write(BASE + i) for i in range(8)], Op(ops.FORK, 1), write(BASE)])
    shared = frames(guest, range(BASE + 1, BASE + 8))
    guest = move(guest)
    run(guest, [Act.START, *[read(BASE + i) for i in range(8)], write(BASE)])
    assert not dirty_now(guest) & shared


@pytest.mark.parametrize("paging", Paging)
@pytest.mark.parametrize("n", [1, 2, 16, 64])
def test_a_physical_group_is_an_aligned_run_of_gfns(paging: Paging, n: int) -> None:
    guest = populated(n, PHYSICAL, paging=paging)
    target = frame(guest, BASE + 40)
    run(guest, [write(BASE + 40)])
    excluded = tables(guest) if paging is Paging.SHADOW else set()
    assert dirty_now(guest) == run_of(target, n, 512) - excluded | {target}


@pytest.mark.parametrize("paging", Paging)
def test_a_physical_group_ends_with_memory(paging: Paging) -> None:
    guest = populated(4096, PHYSICAL, paging=paging, n_frames=300)
    run(guest, [write(BASE)])
    excluded = tables(guest) if paging is Paging.SHADOW else set()
    assert dirty_now(guest) == set(range(300)) - excluded


def test_a_physical_group_opens_every_mapping_of_its_frames() -> None:
    """Pages scattered over two tables, their frames neighbours: no fault for any of them."""
    scattered = [BASE + 512 * (i % 2) + 3 * i for i in range(8)]
    guest = populated(512, PHYSICAL, pages=scattered)
    run(guest, [*[read(page) for page in scattered], write(scattered[0])])
    before = guest.counters().faults
    run(guest, [write(page) for page in scattered])
    assert guest.counters().faults == before


def test_a_frame_opened_before_it_was_mapped_is_writable_at_its_first_read() -> None:
    guest = populated(512, PHYSICAL)
    run(guest, [write(BASE), read(BASE + 1)])
    before = guest.counters().faults
    run(guest, [write(BASE + 1)])
    assert guest.counters().faults == before


def test_a_frame_that_is_dirty_already_opens_no_group() -> None:
    """The kernel clears a fresh frame, which marks it; the user's store to it is no fixup then."""
    neighbours = [BASE + i for i in range(8) if i != 3]
    fillers = list(range(BASE + 100, BASE + 140))  # so that the fresh frame has other gfns near
    guest = populated(8, VIRTUAL, pages=neighbours + fillers)
    run(guest, [write(BASE + 3)])
    assert frame(guest, BASE + 3) in dirty_now(guest)
    assert not dirty_now(guest) & frames(guest, neighbours)


SIMPLE_OPS = st.lists(
    st.tuples(st.sampled_from([read, write]), st.integers(0, N_PAGES - 1)), max_size=40
)


@given(
    SIMPLE_OPS, st.sampled_from([1, 2, 8, 64, 512]), st.sampled_from(CLEAN_POLICIES[Paging.SHADOW])
)
def test_loads_and_stores_open_the_runs_that_the_physical_rule_names(
    accesses: list[tuple[type[Op], int]], n: int, clean: CleanPolicy
) -> None:
    guest = populated(n, PHYSICAL, clean=clean)
    rule = PhysicalGroups(n, 512)
    for access, page in accesses:
        target = frame(guest, BASE + page)
        written = written_by(guest, access(BASE + page))
        rule.mark(written - {target})  # A and D bits in the guest's tables
        if target in written:
            rule.write(target, tables(guest))
        assert dirty_now(guest) == rule.dirty


@given(
    SIMPLE_OPS, st.sampled_from([1, 2, 8, 64, 512]), st.sampled_from(CLEAN_POLICIES[Paging.SHADOW])
)
def test_loads_and_stores_open_the_runs_that_the_virtual_rule_names(
    accesses: list[tuple[type[Op], int]], n: int, clean: CleanPolicy
) -> None:
    guest = populated(n, VIRTUAL, clean=clean)
    dirty: set[int] = set()
    for access, page in accesses:
        target = frame(guest, BASE + page)
        written = written_by(guest, access(BASE + page))
        if target in written and target not in dirty:
            dirty |= openable(guest, BASE + page, n)
        dirty |= written
        assert dirty_now(guest) == dirty


def openable(guest: ModelGuest, page: int, n: int) -> set[int]:
    """Frames that the aligned run of n guest entries around a page lets the guest write."""
    leaf = walker(guest).translate(page << 12)
    assert leaf is not None
    wanted = PRESENT | WRITABLE | ACCESSED | DIRTY
    table = guest.memory.words[leaf.table].tolist()
    first = leaf.slot - leaf.slot % n
    return {frame_of(e) for e in table[first : first + n] if e & wanted == wanted}


@given(programs(), st.sampled_from([1, 2, 8, 64]), st.sampled_from(CLEAN_POLICIES[Paging.HAP]))
def test_under_hap_the_dirty_frames_are_the_runs_around_the_written_ones(
    program: Program, n: int, clean: CleanPolicy
) -> None:
    guest = boot(TrackerConfig(Paging.HAP, clean, group=GroupPolicy(n, PHYSICAL)))
    truth = WrittenFrames()
    guest.start_tracking()
    for step in program:
        if isinstance(step, Op):
            truth.write(written_by(guest, step))
            assert dirty_now(guest) == runs_of(truth.written, n, 512)
        elif step is Act.CLEAN:
            assert cleaned(guest) == runs_of(truth.clean(), n, 512)


@given(programs(), trackers(paging=Paging.SHADOW, group=groups(scope=PHYSICAL)))
def test_shadow_groups_stay_within_the_runs_around_written_frames(
    program: Program, tracker: TrackerConfig
) -> None:
    """Physical groups of any program: at least what was written, at most its aligned runs."""
    n = 512 if tracker.group.adaptive else tracker.group.frames
    guest = boot(tracker)
    truth = WrittenFrames()
    guest.start_tracking()
    for step in [*program, Act.CLEAN]:
        if isinstance(step, Op):
            truth.write(written_by(guest, step))
        elif step is Act.CLEAN:
            written = truth.clean()
            assert written <= cleaned(guest) <= runs_of(written, n, 512)


@given(programs(), trackers(group=groups(d_bit_filter=True)))
def test_the_d_bit_filter_drops_exactly_what_the_hardware_never_wrote(
    program: Program, tracker: TrackerConfig
) -> None:
    """Kept: what was written, and opened frames whose D bit must not be trusted."""
    guest = boot(tracker)
    truth = WrittenFrames()
    guest.start_tracking()
    for step in [*program, Act.CLEAN]:
        if isinstance(step, Op):
            truth.write(written_by(guest, step))
        elif step is Act.CLEAN:
            dirty, doubtful = dirty_now(guest), untrusted(guest, truth.written)
            written = truth.clean()
            assert cleaned(guest) == written | (dirty & doubtful)


def untrusted(guest: ModelGuest, written: set[int]) -> set[int]:
    """Frames of which D bits cannot say that nobody wrote them."""
    tracker = guest.config.tracker
    if tracker.clean_policy is CleanPolicy.BLOW:
        view = ShadowView(guest)  # Xen knows one mapping at best
        return {gfn for gfn in range(guest.n_frames) if len(view.mappings(gfn)) > 1}
    group = tracker.group
    if tracker.paging is Paging.SHADOW or group.frames < 512 or group.trigger > 1:
        return set()
    # Groups of 512 and more that open for certain keep superpages whole, with one D bit each.
    whole = guest.n_frames - guest.n_frames % 512
    return {gfn for gfn in runs_of(written, 512, guest.n_frames) if gfn < whole}


@pytest.mark.parametrize("scope", GroupScope)
@pytest.mark.parametrize("clean", CLEAN_POLICIES[Paging.SHADOW])
def test_the_filter_makes_groups_without_falsely_dirty_frames(
    scope: GroupScope, clean: CleanPolicy
) -> None:
    guest = populated(64, scope, clean=clean, d_bit_filter=True)
    for _ in range(3):
        run(guest, [write(BASE + 1), write(BASE + 9)])
        result = get_and_clear(guest)
        assert result.falsely_dirty_count == 0
        assert set(log_dirty.frames_of(result.dirty).tolist()) == frames(
            guest, [BASE + 1, BASE + 9]
        )
        assert result.dirty_count > 2  # what flipped, before the filter


def shared_between_two_tables(clean: CleanPolicy) -> ModelGuest:
    """Eight frames that user and kernel mapped since logging started; one is written again."""
    group = GroupPolicy(8, VIRTUAL, d_bit_filter=True)
    guest = boot(TrackerConfig(Paging.SHADOW, clean, group=group, prefetch=False), 256)
    run(guest, [Act.START, *[write(BASE + i) for i in range(8)]])  # the kernel clears each page
    return guest


def test_a_hypervisor_that_knows_one_mapping_trusts_no_bit_of_a_frame_mapped_twice() -> None:
    guest = shared_between_two_tables(CleanPolicy.BLOW)
    assert all(
        len(ShadowView(guest).mappings(f)) == 2 for f in frames(guest, range(BASE, BASE + 8))
    )
    kept = cleaned(guest)
    assert frames(guest, range(BASE, BASE + 8)) <= kept


def test_a_hypervisor_with_a_reverse_map_reads_the_bit_of_every_mapping() -> None:
    guest = shared_between_two_tables(CleanPolicy.WRITE_PROTECT)
    get_and_clear(guest)
    run(guest, [write(BASE)])
    pages = frames(guest, range(BASE, BASE + 8))
    assert all(len(ShadowView(guest).mappings(gfn)) == 2 for gfn in pages)
    assert dirty_now(guest) & pages == pages
    assert cleaned(guest) == {frame(guest, BASE)}


@pytest.mark.parametrize("clean", CLEAN_POLICIES[Paging.SHADOW])
@pytest.mark.parametrize("scope", GroupScope)
def test_a_filtered_frame_is_logged_again_when_it_is_written(
    scope: GroupScope, clean: CleanPolicy
) -> None:
    guest = populated(8, scope, clean=clean, d_bit_filter=True)
    run(guest, [*[read(BASE + i) for i in range(8)], write(BASE + 3)])
    assert cleaned(guest) == {frame(guest, BASE + 3)}
    run(guest, [write(BASE + 4)])
    assert frame(guest, BASE + 4) in cleaned(guest)


@pytest.mark.parametrize("scope", GroupScope)
def test_an_opened_frame_whose_mapping_went_away_keeps_what_its_d_bit_knew(
    scope: GroupScope,
) -> None:
    guest = populated(8, scope, d_bit_filter=True)
    run(guest, [write(BASE), write(BASE + 1), read(BASE + 2)])
    written, unwritten = frame(guest, BASE + 1), frame(guest, BASE + 2)
    run(guest, [munmap(BASE + 1, 1), munmap(BASE + 2, 1)])
    found = cleaned(guest)
    assert written in found
    assert unwritten not in found


def test_pml_needs_no_groups_and_reports_what_was_written() -> None:
    guest = boot(TrackerConfig(Paging.HAP, pml=True), 512)
    run(guest, [*[write(BASE + i) for i in range(20)], Act.START, write(BASE + 3)])
    act(guest, Act.PEEK)
    assert cleaned(guest) == {frame(guest, BASE + 3)}
