"""KVM under HAP: fast page faults, superpages split eagerly, PML, and the dirty ring.

arch/x86/kvm/mmu/mmu.c: fast_page_fault, kvm_mmu_slot_try_split_huge_pages; arch/x86/kvm/vmx/vmx.c:
vmx_flush_pml_buffer; virt/kvm/dirty_ring.c. Worked by hand: no machine with EPT was at hand.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from paging_core import log_dirty
from paging_core.config import Hypervisor, MemoryFill, Paging, TrackerConfig, ViolationHandling
from paging_core.kvm_counters import KvmCounters, kvm_counters
from paging_core.kvm_options import SuperpageSplit
from paging_core.model_guest import ModelGuest
from tests.paging_core.reference.harness import boot, run
from tests.paging_core.reference.programs import mmap, write

TDP = TrackerConfig(
    Paging.HAP,
    hypervisor=Hypervisor.KVM,
    violations=ViolationHandling.FAST,
    split=SuperpageSplit.EAGER,
)
PAGE = 0x400
N_FRAMES = 8192


def tdp(tracker: TrackerConfig = TDP, pages: int = 4096) -> ModelGuest:
    """A tracked guest that has written its pages before, so that its tables change no more."""
    guest = boot(tracker, N_FRAMES, fill=MemoryFill.ZERO)
    run(guest, [mmap(PAGE, pages), *[write(PAGE + i) for i in range(pages)]])
    guest.start_tracking()
    return guest


def writes(guest: ModelGuest, pages: int) -> tuple[KvmCounters, dict[str, int]]:
    """What one write to each of some pages adds to KVM's counters, and to the events."""
    counters, events = kvm_counters(guest), guest.counters().events
    run(guest, [write(PAGE + i, 3) for i in range(pages)])
    after = guest.counters().events
    return kvm_counters(guest) - counters, {name: after[name] - events[name] for name in after}


def test_all_superpages_are_split_when_logging_starts_and_each_write_is_a_fast_fault() -> None:
    guest = tdp()
    events = guest.counters().events
    assert (events["p2m_split"], events["p2m_rearm_entry"]) == (N_FRAMES // 512, N_FRAMES)
    counted, events = writes(guest, 4096)
    assert (counted.pf_taken, counted.pf_fixed, counted.pf_fast) == (4096, 4096, 4096)
    assert (events["p2m_fast_fault"], events["p2m_violation"], events["p2m_split"]) == (4096, 0, 0)
    assert (events["exit"], events["mark_dirty"], events["p2m_sync"]) == (4096, 4096, 0)
    assert writes(guest, 4096)[0].pf_taken == 0
    guest.clean()
    assert writes(guest, 4096)[0].pf_fast == 4096  # rule 11's writes again


def test_a_superpage_is_never_mended_without_the_lock() -> None:
    """The first write to each 2 MiB splits, under the lock; those after it are fast."""
    guest = tdp(replace(TDP, split=SuperpageSplit.ON_WRITE))
    frames = {gfn // 512 for gfn in _data_frames(guest)}
    counted, events = writes(guest, 4096)
    assert (counted.pf_fixed, counted.pf_fast) == (4096, 4096 - len(frames))
    assert events["p2m_violation"] == events["p2m_split"] == len(frames)


def _data_frames(guest: ModelGuest) -> set[int]:
    from tests.paging_core.reference.harness import walker  # noqa: PLC0415

    leaves = walker(guest).leaves()
    return {leaves[(PAGE + i) << 12].gfn for i in range(4096)}


def test_xens_and_plain_violations_count_nowhere_in_kvm() -> None:
    for handling in (ViolationHandling.SYNC, ViolationHandling.NO_SYNC):
        guest = tdp(replace(TDP, violations=handling), pages=64)
        counted, events = writes(guest, 64)
        assert (counted.pf_taken, counted.pf_fast) == (0, 0)
        assert (events["p2m_violation"], events["p2m_fast_fault"]) == (64, 0)


def test_pml_takes_no_fault_and_an_exit_for_each_full_buffer() -> None:
    """4096 D bits in buffers of 512."""
    guest = tdp(replace(TDP, pml=True))
    counted, events = writes(guest, 4096)
    assert counted.pf_taken == 0
    assert (events["pml_full"], events["exit"], events["pml_entry"]) == (8, 8, 8 * 512)
    assert log_dirty.count(guest.clean().dirty) == 4096
    again = writes(guest, 4096)[1]  # a clean clears D, and leaves W
    assert (again["p2m_violation"], again["p2m_fast_fault"], again["pml_full"]) == (0, 0, 8)


def test_every_exit_drains_the_buffer() -> None:
    """A superpage's violation is an exit: what was logged before it is in the bitmap after it."""
    guest = tdp(replace(TDP, pml=True, split=SuperpageSplit.ON_WRITE))
    events = writes(guest, 4096)[1]
    frames = {gfn // 512 for gfn in _data_frames(guest)}
    assert events["p2m_violation"] == len(frames)
    # The splits come between full buffers, and empty what there is: a buffer fills in between
    # only where 512 writes follow a split.
    assert events["pml_full"] < 8
    assert log_dirty.count(guest.peek()) == 4096


@pytest.mark.parametrize(("entries", "full", "faults"), [(1024, 4, 4100), (512, 9, 4105)])
def test_a_full_ring_costs_one_more_fast_fault(entries: int, full: int, faults: int) -> None:
    """Without PML as under shadow paging: 960 to a full ring; 4096 = 4 x 960 + 256, with the last
    page of each noted twice: 4 x 959 + 260. Of 512: 448 to a full ring, 9 x 447 + 73."""
    guest = tdp(replace(TDP, dirty_ring=entries))
    counted, _ = writes(guest, 4096)
    assert (counted.ring_full, counted.ring_entries, counted.pf_fast) == (full, faults, faults)
    assert log_dirty.count(guest.clean().dirty) == 4096
    assert writes(guest, 4096)[0].pf_fast == faults  # nobody kept write access


def test_with_pml_the_reserve_is_larger_and_nothing_is_noted_twice() -> None:
    """1024 - 64 - 512 = 448 entries are full: each drained buffer of 512 is, and its stores ran."""
    guest = tdp(replace(TDP, dirty_ring=1024, pml=True))
    counted, events = writes(guest, 4096)
    assert (counted.ring_full, counted.ring_entries, events["pml_full"]) == (8, 8 * 512, 8)
    assert log_dirty.count(guest.clean().dirty) == 4096
    counted, _ = writes(guest, 4096)
    assert (counted.ring_full, counted.pf_taken) == (8, 0)
    assert log_dirty.count(guest.peek()) == 4096
