"""One guest twice: under the model of KVM's shadow MMU, and under KVM's shadow MMU itself.

A model guest boots and maps its working set. It is moved, so that nothing of it is shadowed; its
page table entries are set as the case wants them, and a virtual machine gets a copy of all of its
memory, tables included. From there on both are given the same operations and the same cleans.

What only the virtual machine has is its program: three shadow pages for the program's tables, one
block of 8 entries, a spurious fault that links them into each further root, and one emulated store
for each report. These are counted out, all else must be the same. A clean is followed by a report
on the real side, so that the program is shadowed again before the next round's operations run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from guests.kvm.program import OWN_ENTRY, Report
from guests.kvm.runner import GUEST_SLOT, ONE_BLOCK_LIST_PAGES, Runner
from guests.kvm.tracking import ClearLog, DirtyLog, DirtyRing, Tracking
from paging_core.config import CleanPolicy, GuestConfig, Hypervisor, TrackerConfig
from paging_core.guest import DirtyWords
from paging_core.kernels.state import FL1, FREE, L1, N_PREVIOUS_ROOTS, PRESENT
from paging_core.log_dirty import frames_of, words_of
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads.catalog import make_workload
from paging_core.workloads.ops import OP_DTYPE, READ, REWRITE, SWITCH, WRITE, Ops
from tests.paging_core.reference.walker import ACCESSED, DIRTY, SUPERPAGE, WRITABLE, Walker

OWN_SHADOW_PAGES, OWN_ENTRIES = 3, 8
MODEL_FIELDS = {
    "pf_taken": "taken", "pf_fixed": "fixed", "pf_spurious": "spurious",
    "pf_emulate": "emulated", "mmu_cache_miss": "cache_miss", "mmu_shadow_zapped": "zapped",
    "mmu_recycled": "recycled", "mmu_flooded": "flooded",
}  # fmt: skip
"""Of the model's core by KVM's names."""
VCPU_NAMES = ("pf_taken", "pf_fixed", "pf_spurious", "pf_emulate", "mmio_exits")
MACHINE_NAMES = ("mmu_cache_miss", "mmu_shadow_zapped", "mmu_recycled", "mmu_flooded")
Counts = dict[str, int]


@dataclass(frozen=True)
class Case:
    """What both sides are given.

    Attributes:
        workload: a spec; its set-up and its operations.
        bits: of WRITABLE, ACCESSED and DIRTY, what each leaf entry has at first.
        tracker: the model's; hypervisor KVM, shadow paging.
        memory_frames: of the guest.
        round_ops: operations of a round.
        seed: of the workload.
    """

    workload: str
    bits: int = WRITABLE | ACCESSED | DIRTY
    tracker: TrackerConfig = field(default_factory=lambda: TrackerConfig(hypervisor=Hypervisor.KVM))
    memory_frames: int = 2048
    round_ops: int = 1500
    seed: int = 1


@dataclass(frozen=True)
class Seen:
    """One side of a round.

    Attributes:
        ran: counted while the operations ran.
        cleaned: counted while the clean was made, and the roots loaded again.
        entries: shadow leaf entries present when the operations had run.
        dirty: the bitmap.
        false_count: frames in it that nobody had written.
    """

    ran: Counts
    cleaned: Counts
    entries: int
    dirty: DirtyWords
    false_count: int


class ModelSide:
    """The model."""

    def __init__(self, case: Case) -> None:
        workload = make_workload(case.workload, case.seed)
        config = GuestConfig(
            case.memory_frames * 4096, case.tracker, workload=case.workload, seed=case.seed
        )
        booted = ModelGuest.boot(config, None, workload)
        memory = GuestMemory(booted.n_frames)
        memory.words[:] = booted.memory.words
        self.guest = ModelGuest.resume(memory, booted.state(), workload)
        booted.close()
        self.roots = [int(gfn) for gfn in self.guest.machine.core["vcpu"]["roots"][0]]
        for root in {gfn for gfn in self.roots if gfn}:
            set_leaves(memory, root, case.bits)

    def counts(self) -> Counts:
        core = self.guest.machine.core["kvm"][0]
        return {name: int(core[field]) for name, field in MODEL_FIELDS.items()}

    def start(self) -> None:
        self.guest.start_tracking()

    def run(self, ops: Ops) -> Counts:
        """Run operations without a clean; what they counted."""
        before = self.counts()
        self.guest.execute(ops)
        return between(before, self.counts())

    def round(self, ops: Ops) -> Seen:
        before = self.counts()
        self.guest.execute(ops)
        middle, entries = self.counts(), self.entries()
        cleaned = self.guest.clean()
        if self.guest.clear_chunk_frames:
            self.guest.clear_log(frames_of(cleaned.dirty))
        false_count = cleaned.falsely_dirty_count
        assert false_count is not None
        after = self.counts()
        return Seen(
            between(before, middle), between(middle, after), entries, cleaned.dirty, false_count
        )

    def entries(self) -> int:
        machine = self.guest.machine
        leaf = np.isin(machine.pages["kind"], [L1, FL1]) & (machine.pages["kind"] != FREE)
        return int((machine.entries[leaf] & PRESENT != 0).sum())

    def close(self) -> None:
        self.guest.close()


class RealSide:
    """The virtual machine."""

    def __init__(self, case: Case, model: ModelSide) -> None:
        self.memory = GuestMemory(model.guest.n_frames)
        self.memory.words[:] = model.guest.memory.words
        used = [gfn for gfn in model.roots if gfn]
        self.runner = Runner(
            self.memory,
            used,
            list_pages=ONE_BLOCK_LIST_PAGES,
            ring_entries=case.tracker.dirty_ring,
        )
        self.tracking = make_tracking(self.runner, case.tracker)
        self._linked = {used[0]}
        self._root = used[0]
        self.runner.expect(Report.EMPTY)

    @property
    def ring(self) -> DirtyRing | None:
        """Its dirty ring, if that is how it is tracked."""
        return self.tracking if isinstance(self.tracking, DirtyRing) else None

    def counts(self) -> Counts:
        """As the model counts: without the program's reports."""
        machine = self.runner.machine
        found = machine.vcpu_counters.read(VCPU_NAMES) | machine.machine_counters.read(
            MACHINE_NAMES
        )
        reports = found.pop("mmio_exits")
        found["pf_taken"] -= reports
        found["pf_emulate"] -= reports
        return found

    def start(self) -> None:
        self.tracking.start()
        self.report()

    def report(self) -> None:
        """Load the root and shadow the program again."""
        self.runner.device.give(np.zeros(0, OP_DTYPE))
        self.runner.expect(Report.EMPTY)

    def run(self, ops: Ops) -> Counts:
        """As the model's."""
        before = self.counts()
        self.runner.execute(ops)
        return between(before, self.counts())

    def round(self, ops: Ops) -> Seen:
        old = self.memory.words.copy()
        before = self.counts()
        self.runner.execute(ops)
        middle = self.counts()
        own = self._link(ops)
        middle_of_guest = {**middle, "pf_taken": middle["pf_taken"] - own}
        middle_of_guest["pf_spurious"] -= own
        entries = self.runner.machine.machine_counters.read(["pages_4k"])["pages_4k"]
        dirty = self.tracking.clean()
        if isinstance(self.tracking, ClearLog):
            self.tracking.clear_log(frames_of(dirty))
        self.report()
        cleaned = self._without_program(between(middle, self.counts()))
        written = self._written(ops, old)
        false_count = int(np.bitwise_count(dirty & ~written).sum())
        return Seen(
            between(before, middle_of_guest), cleaned, entries - OWN_ENTRIES, dirty, false_count
        )

    def _link(self, ops: Ops) -> int:
        """How many roots the program's tables were linked into: a spurious fault each."""
        switches = ops["address"][ops["kind"] == SWITCH].tolist()
        roots = [self.runner.roots[process] for process in switches]
        new = set(roots) - self._linked
        self._linked |= new
        self._root = roots[-1] if roots else self._root
        return len(new)

    def _without_program(self, counts: Counts) -> Counts:
        """What a clean counts but for the program: if its shadow pages went, they came again.

        The host switches address spaces by KVM_SET_SREGS, which lets go of every other root; the
        model's guest does it itself and keeps some, which count twice when they are zapped.
        """
        if counts["mmu_shadow_zapped"] == 0:
            return counts
        kept = min(N_PREVIOUS_ROOTS, len(self._linked) - 1)
        self._linked = {self._root}
        own = {
            "pf_taken": 1, "pf_fixed": 1,
            "mmu_cache_miss": OWN_SHADOW_PAGES, "mmu_shadow_zapped": OWN_SHADOW_PAGES - kept,
        }  # fmt: skip
        return {name: count - own.get(name, 0) for name, count in counts.items()}

    def _written(self, ops: Ops, old: npt.NDArray[np.int64]) -> DirtyWords:
        """What was written: by the operations' own addresses, and tables whose bits changed."""
        words = self.memory.words
        pages = np.unique(ops["address"][np.isin(ops["kind"], [WRITE, REWRITE])] >> 12)
        stored = [frames_behind(words, root, pages) for root in self.runner.roots]
        changed = np.flatnonzero((words != old).any(axis=1))
        return words_of(np.unique(np.concatenate([*stored, changed])), self.memory.n_frames)

    def close(self) -> None:
        self.tracking.stop()
        self.runner.close()
        self.memory.close()


def frames_behind(
    words: npt.NDArray[np.int64], root: int, pages: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Frames of those of some pages that are mapped below a root."""
    table = np.full(len(pages), root, np.int64)
    for shift in (27, 18, 9, 0):
        entry = words[table, (pages >> shift) & 511]
        if shift == 9 and ((entry & SUPERPAGE) != 0).all():
            found: npt.NDArray[np.int64] = (entry >> 12) + (pages & 511)
            return found
        mapped = (entry & PRESENT) != 0
        pages, table = pages[mapped], entry[mapped] >> 12
    return table


def make_tracking(runner: Runner, tracker: TrackerConfig) -> Tracking:
    """The real tracker of a model's."""
    machine = runner.machine
    if tracker.dirty_ring:
        ring = DirtyRing(machine, GUEST_SLOT)
        runner.when_full = ring.when_full
        return ring
    if tracker.clean_policy is CleanPolicy.CLEAR_LOG:
        return ClearLog(machine, GUEST_SLOT)
    return DirtyLog(machine, GUEST_SLOT, blow=tracker.clean_policy is CleanPolicy.BLOW)


def between(before: Counts, after: Counts) -> Counts:
    return {name: after[name] - before[name] for name in after}


def set_leaves(memory: GuestMemory, root: int, bits: int) -> None:
    """Let the leaf entries of user pages have of W, A and D just these, and all above them A."""
    words = memory.words
    for table in Walker(words, root).tables(below_va=1 << 47):
        row = words[table.gfn]
        present = (row & PRESENT) != 0
        if table.level == 4:
            present[256:] = False
        leaf = present & ((table.level == 1) | ((row & SUPERPAGE) != 0))
        row[present & ~leaf] |= ACCESSED
        row[leaf] = row[leaf] & ~np.int64(WRITABLE | ACCESSED | DIRTY) | bits


class Pair:
    """Both sides."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model = ModelSide(case)
        self.real = RealSide(case, self.model)
        self._position = 0

    def start(self) -> None:
        """Start tracking."""
        self.model.start()
        self.real.start()

    def ops(self, count: int) -> Ops:
        """The next operations of the workload, accesses and switches alone."""
        made = np.zeros(count, OP_DTYPE)
        self.model.guest.workload.fill(self._position, made)
        self._position += count
        made = made[np.isin(made["kind"], [READ, WRITE, REWRITE, SWITCH])]
        if not self.case.bits & WRITABLE:
            made["kind"][made["kind"] != SWITCH] = READ
        return made

    def run(self, ops: Ops) -> tuple[Counts, Counts]:
        """Operations of both without a clean: the model's counts, the real ones."""
        return self.model.run(ops), self.real.run(ops)

    def round(self) -> tuple[Seen, Seen]:
        """One round of both: the model's, the real one's."""
        ops = self.ops(self.case.round_ops)
        return self.model.round(ops), self.real.round(ops)

    def memory_differs(self) -> list[int]:
        """Frames whose bytes differ; the entry that maps the program aside."""
        mine, theirs = self.model.guest.memory.words, self.real.memory.words.copy()
        theirs[self.real.runner.roots, OWN_ENTRY] = 0
        return np.flatnonzero((mine != theirs).any(axis=1)).tolist()

    def close(self) -> None:
        self.real.close()
        self.model.close()


@contextmanager
def pair(case: Case, *, tracked: bool = True) -> Iterator[Pair]:
    """Both sides, tracked if nothing else is said."""
    made = Pair(case)
    try:
        if tracked:
            made.start()
        yield made
    finally:
        made.close()
