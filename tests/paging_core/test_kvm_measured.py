"""KVM's shadow MMU counts as a real one did: figures measured on a KVM guest without EPT or NPT.

Linux 6.18, module kvm_pvm, one vCPU, a window of 16,384 frames (KVM_GET_STATS_FD,
KVM_GET_DIRTY_LOG). The rules are in arch/x86/kvm/mmu; docs/paging-model.md names them one by one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from paging_core.config import CleanPolicy
from paging_core.shadow_view import ShadowView
from paging_core.workloads import ops
from tests.paging_core.kvm import FIRST_PAGE, KVM, Window, make_window
from tests.paging_core.reference.harness import walker
from tests.paging_core.reference.programs import Op, as_ops
from tests.paging_core.reference.walker import ACCESSED, DIRTY, PRESENT, USER, WRITABLE

W, A, D = WRITABLE, ACCESSED, DIRTY
COUNT = 16_384
L1_TABLES = 32
STRIDES = (1, 12_345)


def in_order(window: Window, stride: int) -> list[int]:
    """Every page once: neighbours one after the other, or far apart."""
    return [window.pages[i * stride % len(window.pages)] for i in range(len(window.pages))]


def fresh(bits: int, *, logging: bool) -> Window:
    """A window of which nothing is shadowed."""
    window = make_window(COUNT, bits=bits)
    if logging:
        window.guest.start_tracking()
    return window


# logging, bits of the guest's entries, faults of the first reads, of the first writes (None: the
# guest's own tables forbid them), dirty frames of the window after the reads, other dirty frames
FIRST_PASS = [
    (False, W | A | D, 2_048, 2_048, None, None),
    (False, W | A, 2_048, 16_384, None, None),
    (False, A | D, 2_048, None, None, None),
    (False, A, 2_048, None, None, None),
    (False, W, 16_384, 16_384, None, None),
    (True, W | A | D, 16_384, 16_384, 16_384, 0),
    (True, W | A, 2_048, 16_384, 0, 0),
    (True, A | D, 2_048, None, 0, 0),
    (True, A, 2_048, None, 0, 0),
    (True, W, 16_384, 16_384, 0, L1_TABLES),
]


@pytest.mark.parametrize(("logging", "bits", "reads", "writes", "dirty", "tables"), FIRST_PASS)
def test_the_first_pass_over_a_window(
    logging: bool, bits: int, reads: int, writes: int | None, dirty: int | None, tables: int | None
) -> None:
    for stride in STRIDES:
        window = fresh(bits, logging=logging)
        counted = window.read(in_order(window, stride))
        assert (counted.pf_taken, counted.pf_fixed) == (reads, reads)
        if logging:
            assert window.dirty() == (dirty, tables)
        if writes is not None:
            window = fresh(bits, logging=logging)
            assert window.write(in_order(window, stride)).pf_fixed == writes


def test_a_first_write_marks_the_pages_and_the_tables_whose_bits_it_sets() -> None:
    window = make_window(COUNT, bits=W)
    window.guest.start_tracking()
    window.write()
    assert window.dirty() == (COUNT, L1_TABLES)


def test_one_write_to_a_guest_superpage_makes_every_later_read_in_it_dirty() -> None:
    window = make_window(COUNT, bits=W | A, huge=True)
    window.guest.start_tracking()
    assert window.read().pf_fixed == 2_048
    assert window.dirty() == (0, 0)
    counted = window.write(window.pages[::512])
    assert (counted.pf_fixed, counted.mmu_cache_miss) == (32, 32)
    assert window.dirty() == (32, 1)  # and their L2 table, where 32 D bits were set
    assert window.read().pf_fixed == 16_352
    assert window.dirty() == (COUNT, 1)


def test_a_dirty_guest_superpage_is_read_page_by_page_under_logging() -> None:
    window = make_window(COUNT, bits=W | A | D, huge=True)
    window.guest.start_tracking()
    assert window.read().pf_fixed == COUNT
    assert window.dirty() == (COUNT, 0)
    window.guest.clean()
    assert window.read().pf_taken == 0
    assert window.write().pf_fixed == COUNT


def test_after_a_clean_reads_are_free_and_each_first_write_faults() -> None:
    window = make_window(COUNT, bits=W | A | D)
    window.guest.start_tracking()
    window.read()
    window.guest.clean()
    assert window.read().pf_taken == 0
    assert window.dirty() == (0, 0)
    assert window.write().pf_fixed == COUNT


def test_enabling_protects_what_is_mapped_and_disabling_gives_nothing_back() -> None:
    window = make_window(COUNT, bits=W | A | D)
    window.read()
    window.guest.start_tracking()
    assert window.read().pf_taken == 0
    assert window.write().pf_fixed == COUNT
    window.guest.clean()
    window.guest.stop_tracking()
    assert window.write().pf_fixed == COUNT


def test_every_alias_faults_though_its_frame_is_dirty() -> None:
    window = make_window(2_048, bits=W | A | D)
    words, leaves = window.guest.memory.words, walker(window.guest).leaves()
    first, second = window.pages[:1_024], window.pages[1_024:]
    for one, other in zip(first, second, strict=True):
        here, there = leaves[one << 12], leaves[other << 12]
        words[there.table, there.slot] = words[here.table, here.slot]
    window.guest.start_tracking()
    assert window.write(first).pf_fixed == 1_024
    assert window.write(second).pf_fixed == 1_024
    assert window.dirty() == (1_024, 0)


def a_blow(window: Window) -> int:
    """Shadow pages that a deleted and added memory slot zaps."""
    before = window.counters
    window.guest.clean()
    return (window.counters - before).mmu_shadow_zapped


def test_a_blow_zaps_every_page_and_the_root_in_use_twice() -> None:
    window = make_window(COUNT + 1, bits=W | A | D, tracker=replace(KVM, clean=CleanPolicy.BLOW))
    window.guest.start_tracking()
    window.read()
    assert len(list(ShadowView(window.guest).pages())) == 36  # 33 L1, one L2, one L3, one L4
    assert a_blow(window) == 36 + 1
    assert window.read().pf_fixed == COUNT + 1  # and all is built again


@pytest.mark.parametrize(
    ("entries", "full", "faults"), [(1_024, 17, COUNT + 17), (4_096, 4, COUNT + 4)]
)
def test_each_full_ring_costs_one_more_fault(entries: int, full: int, faults: int) -> None:
    window = make_window(COUNT, bits=W | A | D, tracker=replace(KVM, dirty_ring=entries))
    window.guest.start_tracking()
    counted = window.write()
    assert (counted.ring_full, counted.ring_entries, counted.pf_fixed) == (full, faults, faults)
    assert window.dirty() == (COUNT, 0)
    window.guest.clean()
    assert window.read().pf_taken == 0
    assert window.write().pf_fixed == faults  # nobody kept write access


FAR_PAGE = 0x8000000
"""In another 512 GiB: its path has no table but the root in common with the window's."""
UNUSED_SLOT = 300


def map_l2_table(window: Window, page: int) -> None:
    """The guest maps the window's L2 table as a page of its own."""
    view = walker(window.guest)
    leaf = view.translate(page << 12)
    tables = [t for t in view.tables(below_va=1 << 47) if t.level == 2]
    table = next(t for t in tables if 0 <= (FIRST_PAGE << 12) - t.first_va < 1 << 30)
    assert leaf is not None
    window.guest.memory.words[leaf.table, leaf.slot] = table.gfn << 12 | PRESENT | USER | W | A | D


def store(window: Window, page: int) -> None:
    """A store to a slot of the table that maps nothing, and goes on mapping nothing."""
    window.guest.execute(as_ops([Op(ops.WRITE, (page << 12) + UNUSED_SLOT * 8, 2)]))


def test_a_table_that_is_written_elsewhere_is_flooded_every_third_time() -> None:
    window = make_window(512, bits=W | A | D, beside=FAR_PAGE)
    map_l2_table(window, FAR_PAGE)
    window.read([FIRST_PAGE, FAR_PAGE])
    before = window.counters
    for _ in range(100):
        store(window, FAR_PAGE)
        window.read([FIRST_PAGE])
    counted = window.counters - before
    assert (counted.pf_emulate, counted.mmu_flooded, counted.mmu_shadow_zapped) == (100, 33, 33)
    assert counted.mmu_pte_write == 100
    # What was below it is found in the hash: one page is made, one link is put back.
    assert (counted.mmu_cache_miss, counted.pf_spurious) == (33, 33)


def test_a_table_on_the_path_of_its_own_address_is_never_flooded() -> None:
    window = make_window(512, bits=W | A | D)
    alias = window.pages[-1]
    map_l2_table(window, alias)
    window.read([FIRST_PAGE])
    before = window.counters
    for _ in range(32):
        store(window, alias)
    counted = window.counters - before
    assert (counted.pf_emulate, counted.mmu_flooded, counted.mmu_cache_miss) == (32, 0, 0)


def test_an_l1_table_is_written_freely_after_one_fault() -> None:
    window = make_window(512, bits=W | A | D, beside=FAR_PAGE)
    view = walker(window.guest)
    leaf, table = view.translate(FAR_PAGE << 12), view.translate(FIRST_PAGE << 12)
    assert leaf is not None
    assert table is not None
    entry = table.table << 12 | PRESENT | USER | W | A | D
    window.guest.memory.words[leaf.table, leaf.slot] = entry
    window.read([FIRST_PAGE])
    before = window.counters
    for _ in range(202):
        window.guest.execute(as_ops([Op(ops.WRITE, (FAR_PAGE << 12) + 511 * 8, 2)]))
    counted = window.counters - before
    assert (counted.pf_taken, counted.pf_emulate, counted.mmu_unsync) == (1, 0, 1)


def passes(pool: int, number: int) -> tuple[list[int], list[int]]:
    """Faults fixed and pages recycled, pass by pass, where 68 shadow pages are needed."""
    tracker = replace(KVM, shadow_pool_frames=pool)
    window = make_window(64 * 64 + 1, bits=W | A | D, tracker=tracker, step=8)
    counted = [window.read() for _ in range(number)]
    return [one.pf_fixed for one in counted], [one.mmu_recycled for one in counted]


def test_68_shadow_pages_within_64_are_all_built_anew_in_each_pass() -> None:
    fixed, recycled = passes(64, 8)
    assert set(fixed) == {64 * 64 + 1}
    assert set(recycled[1:]) <= {63, 84}  # 21 at a time: from under 5 free to 25
    assert recycled.count(63) > recycled.count(84)


def test_68_shadow_pages_within_80_stay_after_one_repair() -> None:
    fixed, recycled = passes(80, 4)
    assert fixed[0] == 64 * 64 + 1
    assert fixed[2:] == [0, 0]
    assert recycled[2:] == [0, 0]
