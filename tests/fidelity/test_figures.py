"""Figures that were measured once on a KVM guest without EPT or NPT, measured here again.

A window of 16,384 pages. Each figure is the model's and this machine's; Linux 6.18, kvm_pvm had it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paging_core.config import CleanPolicy, Hypervisor, TrackerConfig
from paging_core.workloads.ops import OP_DTYPE, READ, WRITE, Ops
from paging_core.workloads.records import BASE
from tests.fidelity.differences import differences
from tests.fidelity.pair import Case, Pair, pair
from tests.paging_core.reference.walker import ACCESSED, DIRTY, WRITABLE

W, A, D = WRITABLE, ACCESSED, DIRTY
COUNT = 16_384
KVM = TrackerConfig(hypervisor=Hypervisor.KVM)


def window(bits: int, tracker: TrackerConfig = KVM, *, huge: bool = False) -> Case:
    return Case(f"sequential:wss=64MiB,init=0,huge={int(huge)}", bits, tracker, COUNT + 4096, COUNT)


def accesses(kind: int, stride: int = 1, step: int = 1) -> Ops:
    """One access to each `step`th page, neighbours one after the other or far apart."""
    made = np.zeros(COUNT // step, OP_DTYPE)
    pages = np.arange(0, COUNT, step) * stride % COUNT
    made["address"], made["kind"], made["words"] = BASE + (pages << 12), kind, 1
    return made


def fixed(both: Pair, ops: Ops) -> int:
    """Faults fixed, of which there must be as many on both sides, and nothing else different."""
    model, real = both.run(ops)
    assert model == real
    return model["pf_fixed"]


# logging, bits of the guest's entries, faults of the first reads, of the first writes
FIRST_PASS = [
    (False, W | A | D, 2_048, 2_048),
    (False, W | A, 2_048, 16_384),
    (False, A | D, 2_048, None),
    (False, W, 16_384, 16_384),
    (True, W | A | D, 16_384, 16_384),
    (True, W | A, 2_048, 16_384),
    (True, A, 2_048, None),
    (True, W, 16_384, 16_384),
]


@pytest.mark.parametrize(("logging", "bits", "reads", "writes"), FIRST_PASS)
def test_the_first_pass_over_a_window(
    logging: bool, bits: int, reads: int, writes: int | None
) -> None:
    with pair(window(bits), tracked=logging) as both:
        assert fixed(both, accesses(READ, stride=12_345 if bits == W | A else 1)) == reads
    if writes is not None:
        with pair(window(bits), tracked=logging) as both:
            assert fixed(both, accesses(WRITE)) == writes


def test_one_write_to_a_guest_superpage_makes_every_later_read_in_it_dirty() -> None:
    with pair(window(W | A, huge=True)) as both:
        assert fixed(both, accesses(READ)) == 2_048
        assert fixed(both, accesses(WRITE, step=512)) == 32
        assert fixed(both, accesses(READ)) == 16_352


def test_disabling_the_log_gives_nothing_back() -> None:
    with pair(window(W | A | D)) as both:
        assert fixed(both, accesses(READ)) == COUNT
        model, real = both.model.round(accesses(READ)), both.real.round(accesses(READ))
        assert differences(model, real) == []
        both.model.guest.stop_tracking()
        both.real.tracking.stop()
        assert fixed(both, accesses(WRITE)) == COUNT


def test_a_blow_zaps_every_page_and_the_root_in_use_twice() -> None:
    with pair(window(W | A | D, replace(KVM, clean=CleanPolicy.BLOW))) as both:
        model, real = both.model.round(accesses(WRITE)), both.real.round(accesses(WRITE))
        assert differences(model, real) == []
        # 32 tables of the window, one of each level above; the root twice, and made again
        assert real.cleaned["mmu_shadow_zapped"] == 32 + 3 + 1
        assert real.cleaned["mmu_cache_miss"] == 1
        assert real.entries == COUNT


@pytest.mark.parametrize(("entries", "full", "faults"), [(1024, 17, 16_401), (4096, 4, 16_388)])
def test_each_full_ring_costs_one_more_fault(entries: int, full: int, faults: int) -> None:
    with pair(window(W | A | D, replace(KVM, dirty_ring=entries)), tracked=False) as both:
        assert fixed(both, accesses(WRITE)) == 2_048
        both.start()
        assert fixed(both, accesses(WRITE)) == faults
        assert int(both.model.guest.machine.core["ring"]["full"][0]) == full
        assert both.real.ring is not None
        assert both.real.ring.full == full
