"""Page groups by userfaultfd under KVM's shadow MMU: the measured counts, and cases by hand.

Measured on a KVM guest without EPT or NPT (Linux 6.18, kvm_pvm), one vCPU, 16,384 frames written in
order, a handler in C. There pf_taken is one more: the store by which the program reported.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from paging_core import log_dirty
from paging_core.config import GroupPolicy, GroupScope
from paging_core.kvm_options import GroupOpening
from paging_core.shadow_view import ShadowView
from paging_core.workloads import ops
from tests.paging_core.kvm import FIRST_PAGE, KVM, Window, make_window
from tests.paging_core.reference.harness import walker
from tests.paging_core.reference.programs import Op, as_ops
from tests.paging_core.reference.walker import ACCESSED, DIRTY, WRITABLE

W, A, D = WRITABLE, ACCESSED, DIRTY
COUNT = 16_384
SHARED, POPULATED = GroupOpening.UFFD_SHARED, GroupOpening.UFFD_POPULATED


def window(n: int, opening: GroupOpening, count: int = 512, bits: int = W | A | D) -> Window:
    """An aligned window that was read once, so that it has its shadow pages, and is tracked."""
    tracker = replace(KVM, group=GroupPolicy(n), group_opening=opening)
    made = make_window(count, bits=bits, tracker=tracker, aligned=True)
    made.read()
    made.guest.start_tracking()
    return made


# group, faults that the handler took, faults fixed on shared memory, on populated or private memory
MEASURED = [
    (1, 16_384, 16_384, 16_384),
    (4, 4_096, 16_384, 4_096),
    (16, 1_024, 16_384, 2_048),
    (64, 256, 16_384, 2_048),
    (256, 64, 16_384, 2_048),
    (1024, 16, 16_384, 2_048),
]


@pytest.mark.parametrize(("n", "handled", "shared", "populated"), MEASURED)
def test_faults_of_16384_writes_in_order(n: int, handled: int, shared: int, populated: int) -> None:
    for opening, fixed in ((SHARED, shared), (POPULATED, populated)):
        made = window(n, opening, COUNT)
        counted = made.write()
        assert made.guest.counters().faults["userfault"] == handled
        assert counted.pf_fixed == fixed
        assert counted.pf_taken == fixed + handled
        assert (counted.pf_spurious, counted.pf_emulate, counted.mmu_cache_miss) == (0, 0, 0)
        assert made.dirty() == (COUNT, 0)


def test_protecting_takes_every_entry_and_no_shadow_page() -> None:
    made = window(16, POPULATED)
    view = ShadowView(made.guest)
    pages = {page.index: page for page in view.pages()}
    assert sorted(page.kind for page in pages.values()) == ["l1", "l2", "l3", "l4"]
    leaves = [page.index for page in pages.values() if page.kind == "l1"]
    assert [list(view.entries(page)) for page in leaves] == [[]]
    assert made.counters.mmu_shadow_zapped == 0


def test_a_protected_page_is_read_alone_and_read_only() -> None:
    """The host lets no neighbour be written, which ends KVM's block of 8 at once."""
    made = window(16, POPULATED)
    counted = made.read()
    assert (counted.pf_taken, counted.pf_fixed) == (512, 512)
    assert made.dirty() == (0, 0)
    assert made.guest.counters().faults["userfault"] == 0


def test_an_opening_zaps_what_was_read_in_its_group_and_nothing_else() -> None:
    made = window(16, POPULATED)
    made.read()
    made.write(made.pages[:1])  # opens 0 to 15, fills 0 to 7
    assert made.read(made.pages[1:8]).pf_taken == 0
    assert made.read(made.pages[8:16]).pf_fixed == 1
    assert made.read(made.pages[16:]).pf_taken == 0


def test_after_a_clean_the_opened_pages_are_protected_and_zapped_and_no_others() -> None:
    made = window(16, POPULATED)
    made.write(made.pages[:16])
    made.read(made.pages[16:24])
    made.guest.clean()
    assert made.read(made.pages[16:24]).pf_taken == 0
    counted = made.write(made.pages[:16])
    assert (counted.pf_taken, counted.pf_fixed) == (3, 2)
    assert made.dirty() == (16, 0)


def test_after_tracking_private_memory_is_writable_and_shared_is_not() -> None:
    for opening, fixed in ((SHARED, 512), (POPULATED, 64)):
        made = window(16, opening)
        made.guest.stop_tracking()
        counted = made.write()
        assert (counted.pf_taken, counted.pf_fixed) == (fixed, fixed)


def test_a_group_opens_with_its_second_dirty_page_if_it_is_to() -> None:
    tracker = replace(KVM, group=GroupPolicy(16, trigger=2), group_opening=POPULATED)
    made = make_window(512, bits=W | A | D, tracker=tracker, aligned=True)
    made.guest.start_tracking()
    made.write(made.pages[:1])
    assert made.dirty() == (1, 0)
    made.write(made.pages[9:10])
    assert made.dirty() == (16, 0)


def test_bits_that_kvm_sets_in_a_table_open_the_tables_group() -> None:
    """A of the L1 table's entry is set by KVM, through the host: the handler opens the table."""
    made = window(1, POPULATED, bits=W | D)  # A clear
    table = walker(made.guest).leaves()[FIRST_PAGE << 12].table
    made.guest.clean()
    row = made.guest.memory.words[table]
    row[row != 0] &= ~A
    counted = made.read(made.pages[:2])
    # One handler fault, and no second exit: the fault slept before it asked for its page.
    assert (counted.pf_taken, counted.pf_fixed) == (2, 2)
    assert made.guest.counters().faults["userfault"] == 1
    assert log_dirty.frames_of(made.guest.peek()).tolist() == [table]


def test_an_emulated_store_opens_the_page_of_its_table() -> None:
    """The L2 table is mapped as a page: its store is emulated, after the handler opened it."""
    made = window(1, POPULATED)
    view = walker(made.guest)
    l2 = next(t for t in view.tables(below_va=1 << 47) if t.level == 2).gfn
    leaf = view.leaves()[made.pages[-1] << 12]
    words = made.guest.memory.words
    words[leaf.table, leaf.slot] = l2 << 12 | words[leaf.table, leaf.slot] & 0xFFF
    made.read(made.pages[-1:])
    before = made.counters
    store = Op(ops.WRITE, (made.pages[-1] << 12) + 300 * 8, 2)
    made.guest.execute(as_ops([store, store]))
    counted = made.counters - before
    assert (counted.pf_taken, counted.pf_emulate, counted.pf_fixed) == (2, 2, 0)
    assert made.guest.counters().faults["userfault"] == 1
    assert log_dirty.frames_of(made.guest.peek()).tolist() == [l2]


def test_groups_that_userfaultfd_opens_are_runs_of_frames() -> None:
    tracker = replace(KVM, group=GroupPolicy(16), group_opening=POPULATED)
    assert tracker.group.scope is GroupScope.PHYSICAL
