"""KVM_DIRTY_LOG_INITIALLY_SET: the log starts full, and protects what is cleared of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paging_core import log_dirty
from paging_core.config import CleanPolicy, MemoryFill, Paging, TrackerConfig
from paging_core.kvm_options import SuperpageSplit
from paging_core.model_guest import ModelGuest
from tests.paging_core.kvm import KVM, make_window
from tests.paging_core.reference.harness import boot, run
from tests.paging_core.reference.programs import read, write
from tests.paging_core.reference.walker import ACCESSED, DIRTY, WRITABLE

FULL = replace(KVM, clean=CleanPolicy.CLEAR_LOG, initially_set=True)
BITS = WRITABLE | ACCESSED | DIRTY
PAGE = 0x400


def test_the_first_get_reports_every_frame_and_protects_none() -> None:
    made = make_window(512, bits=BITS, tracker=FULL)
    made.write()
    made.guest.start_tracking()
    events = made.guest.counters().events
    assert (events["write_protect_frame"], events["tlb_flush"]) == (0, 0)
    assert made.write().pf_taken == 0
    assert log_dirty.count(made.guest.clean().dirty) == made.guest.n_frames
    assert made.write().pf_taken == 0


def test_what_is_cleared_faults_and_the_rest_does_not() -> None:
    made = make_window(512, bits=BITS, tracker=FULL, aligned=True)
    made.write()
    made.guest.start_tracking()
    first = min(made.frames())
    made.guest.clear_log(np.arange(first, first + 64))
    assert made.guest.counters().events["write_protect_frame"] == 64
    assert made.write(made.pages[64:]).pf_taken == 0
    assert made.write(made.pages[:64]).pf_fixed == 64
    assert log_dirty.count(made.guest.peek()) == made.guest.n_frames
    made.guest.clear_log(np.arange(made.guest.n_frames))
    assert log_dirty.count(made.guest.peek()) == 0
    assert made.write().pf_fixed == 512
    assert made.dirty() == (512, 0)


def hap(split: SuperpageSplit, *, pml: bool = False) -> ModelGuest:
    """Two superpages of the P2M under a log that starts full, 8 pages written before."""
    tracker = replace(FULL, paging=Paging.HAP, split=split, pml=pml)
    guest = boot(tracker, 1024, fill=MemoryFill.ZERO)
    run(guest, [write(PAGE + i) for i in range(8)])
    guest.start_tracking()
    return guest


def events(guest: ModelGuest) -> tuple[int, ...]:
    """Violations, splits, re-armed entries so far."""
    counted = guest.counters().events
    names = ("p2m_violation", "p2m_fast_fault", "p2m_split", "p2m_rearm_entry")
    return tuple(counted[name] for name in names)


def test_a_superpage_loses_write_access_once_for_each_64_frames_that_are_cleared() -> None:
    guest = hap(SuperpageSplit.ON_WRITE)
    run(guest, [write(PAGE + i) for i in range(8)])
    assert events(guest) == (0, 0, 0, 0)
    guest.clear_log(np.arange(128, 256))
    assert events(guest) == (0, 0, 0, 2)
    # All 512 of it are read-only now: a write elsewhere in it splits, and its log is full still.
    run(guest, [write(PAGE)])
    assert events(guest)[:3] == (1, 0, 1)
    assert log_dirty.count(guest.peek()) == 1024 - 128


def test_eager_splitting_comes_with_the_clearing_and_leaves_the_others_writable() -> None:
    guest = hap(SuperpageSplit.EAGER)
    assert events(guest) == (0, 0, 0, 0)
    guest.clear_log(np.arange(512, 576))
    assert events(guest) == (0, 0, 1, 64)
    run(guest, [write(PAGE + i) for i in range(8)])  # in the first 2 MiB
    assert events(guest) == (0, 0, 1, 64)


@pytest.mark.parametrize("split", SuperpageSplit)
def test_nothing_that_is_written_after_the_clearing_is_lost_with_pml(split: SuperpageSplit) -> None:
    guest = hap(split, pml=True)
    guest.clear_log(np.arange(1024))
    guest.memory.words[:]  # the sender copies here
    run(guest, [read(PAGE + 1), write(PAGE), write(PAGE + 5)])
    before = guest.counters().events["pml_entry"]
    dirty = log_dirty.frames_of(guest.clean().dirty)
    assert len(dirty) == 2
    assert guest.counters().events["pml_entry"] - before == 2


def test_other_policies_of_kvm_protect_when_the_log_starts() -> None:
    made = make_window(512, bits=BITS, tracker=TrackerConfig(hypervisor=KVM.hypervisor))
    made.write()
    made.guest.start_tracking()
    assert made.write().pf_fixed == 512
