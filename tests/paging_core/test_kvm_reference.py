"""KVM's shadow MMU beside a plain model of it, access by access, over tables that may be anything.

The guest maps pages, and tables of its own as pages, so that stores change how it is translated
from one access to the next; two processes share all of it below their roots.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paging_core import log_dirty
from paging_core.config import CleanPolicy, GroupPolicy, MemoryFill, TrackerConfig
from paging_core.kvm_counters import kvm_counters
from paging_core.kvm_options import GroupOpening, SlotZap
from paging_core.model_guest import ModelGuest
from paging_core.shadow_view import ShadowView
from paging_core.workloads import ops
from tests.paging_core.kvm import FIRST_PAGE, KVM
from tests.paging_core.reference.harness import boot, move, roots, walker
from tests.paging_core.reference.kvm import Host, KvmReference, Page
from tests.paging_core.reference.programs import Op, as_ops
from tests.paging_core.reference.walker import (
    ACCESSED,
    DIRTY,
    PRESENT,
    SUPERPAGE,
    USER,
    WRITABLE,
)

FRAMES = 1536
OTHER_PAGE = FIRST_PAGE + 512
NEAR = 12
"""Pages in each of two neighbouring L1 tables."""
ALIASES = 5
"""More pages behind them, which map both L1 tables and those above them, one each."""
FAR = 26
"""Pages with an L1 table each: more tables than there is room for shadows of."""
SLOTS = (0, 1, 2, 5, 7, 8, 9, 12, 13, 14, 15, 64, 65, 300)
"""Words that stores go to: in a table, entries on the path of these pages."""
CHILD = 1
LEAF = PRESENT | USER
COUNTERS = (
    "pf_taken", "pf_fixed", "pf_spurious", "pf_emulate", "mmu_cache_miss", "mmu_shadow_zapped",
    "mmu_recycled", "mmu_flooded", "mmu_pde_zapped",
)  # fmt: skip


@dataclass
class Both:
    """The model and the reference, doing the same.

    Attributes:
        guest: the model's.
        reference: the plain one.
        pages: that accesses go to.
        tables: gfns of the two L1 tables and of those above them.
        data: gfns of plain pages.
        blow: a clean drops everything.
    """

    guest: ModelGuest
    reference: KvmReference
    pages: list[int]
    tables: list[int]
    data: list[int]
    blow: bool

    def step(self, kind: str, page: int, slot: int, value: int) -> None:
        """One step; what the guest's own tables forbid is left out."""
        va = (self.pages[page % len(self.pages)] << 12) + SLOTS[slot % len(SLOTS)] * 8
        match kind:
            case "read" | "write" if self.reference.allows(va, kind == "write"):
                stored = self._entry(value) if kind == "write" else None
                op = Op(ops.READ if stored is None else ops.WRITE, va, stored or 0)
                self.guest.execute(as_ops([op]))
                self.reference.access(va, stored)
            case "switch":
                self._switch(value % 2)
            case "start" if not self.reference.logging:
                self.guest.start_tracking()
                self.reference.count["userfault"] = 0  # the guest counts from here, too
                self.reference.start(blow=self.blow)
            case "clean" if self.reference.logging:
                self.guest.clean()
                self.reference.clean(blow=self.blow)
            case "stop":
                self.guest.stop_tracking()
                self.reference.stop()

    def _switch(self, process: int) -> None:
        if int(self.guest.machine.core["vcpu"]["process"][0]) != process:
            self.guest.execute(as_ops([Op(ops.SWITCH, process)]))
            self.reference.load(roots(self.guest)[process])

    def _entry(self, number: int) -> int:
        """What a store writes: most of it could be an entry."""
        targets = [*self.data[:4], *self.tables, 0, 512, 1024, FRAMES]
        flags = (0, LEAF, LEAF | ACCESSED, LEAF | ACCESSED | WRITABLE)
        entry = flags[number % 4] | (DIRTY if number & 4 else 0)
        entry |= WRITABLE if number & 8 else 0
        entry |= SUPERPAGE if number & 48 == 48 else 0
        return targets[(number >> 6) % len(targets)] << 12 | entry

    def compare_counters(self) -> None:
        """They counted the same."""
        kvm, reference = kvm_counters(self.guest), self.reference
        counted = {name: getattr(kvm, name) for name in COUNTERS}
        assert counted == {name: reference.count[name] for name in COUNTERS}
        if reference.logging:
            assert self.guest.counters().faults["userfault"] == reference.count["userfault"]
        assert kvm.mmu_unsync == sum(page.unsync for page in reference.pages)

    def compare(self) -> None:
        """They agree in memory, in what is dirty, and in every shadow entry."""
        view, reference = ShadowView(self.guest), self.reference
        assert (self.guest.memory.words == reference.words).all()
        if reference.logging:
            assert set(log_dirty.frames_of(self.guest.peek()).tolist()) == reference.dirty
        assert shadows(view) == sorted(described(page) for page in reference.pages)


def described(page: Page) -> Any:
    """A reference page as `shadows` tells it."""
    kind = "fl1" if page.direct else f"l{page.level}"
    if page.level > 1:
        return page.gfn, kind, [(s, child.gfn, False) for s, child in sorted(page.below.items())]
    return page.gfn, kind, [(s, e.gfn, e.writable) for s, e in sorted(page.leaves.items())]


def shadows(view: ShadowView) -> Any:
    """Every shadow page of the model: what it shadows, and what its entries lead to."""
    pages = {page.index: page for page in view.pages()}
    found = []
    for page in pages.values():
        entries = [
            (
                entry.slot,
                entry.target if page.kind in {"l1", "fl1"} else pages[entry.target].guest_frame,
                entry.writable,
            )
            for entry in view.entries(page.index)
        ]
        found.append((page.guest_frame, page.kind, entries))
    return sorted(found)


def make(tracker: TrackerConfig, bits: list[int]) -> Both:
    """A guest with two L1 tables of pages and a child, whose leaf entries have these bits."""
    guest = boot(tracker, FRAMES, fill=MemoryFill.ZERO)
    far = [OTHER_PAGE + 512 * (1 + i) for i in range(FAR)]
    maps = [(FIRST_PAGE, NEAR + ALIASES), (OTHER_PAGE, NEAR), *((page, 1) for page in far)]
    mapped = [Op(ops.MMAP, page << 12, count) for page, count in maps]
    guest.execute(as_ops([*mapped, Op(ops.FORK, CHILD)]))
    guest = move(guest)
    words, view = guest.memory.words, walker(guest)
    parent, child = roots(guest)[0], roots(guest)[CHILD]
    words[child, 0] = words[parent, 0]  # they share all that is below their roots
    leaves = view.leaves()
    near = [FIRST_PAGE + i for i in range(NEAR)] + [OTHER_PAGE + i for i in range(NEAR)]
    for i, page in enumerate([*near, *far]):
        leaf = leaves[page << 12]
        words[leaf.table, leaf.slot] = leaf.gfn << 12 | LEAF | bits[i % len(bits)]
    above = [
        next(t.gfn for t in view.tables(below_va=1 << 46) if t.level == level)
        for level in (2, 3, 4)
    ]
    tables = [leaves[FIRST_PAGE << 12].table, leaves[OTHER_PAGE << 12].table, *above]
    aliases = [FIRST_PAGE + NEAR + i for i in range(ALIASES)]
    for page, table in zip(aliases, tables, strict=True):
        leaf = leaves[page << 12]
        words[leaf.table, leaf.slot] = table << 12 | LEAF | WRITABLE | ACCESSED | DIRTY
    pool = int(guest.machine.core["shadow"]["pool_pages"][0])
    host, slots = None, 0
    if tracker.uses_userfaultfd:
        host = Host(tracker.group.frames, tracker.group_opening is GroupOpening.UFFD_POPULATED)
    if tracker.slot_zap is SlotZap.SLOT:
        slots = tracker.memory_slots
    return Both(
        guest,
        KvmReference(words, parent, pool, host, slots),
        near + aliases * 3 + far,
        tables,
        [leaves[page << 12].gfn for page in near],
        tracker.clean_policy is CleanPolicy.BLOW,
    )


KINDS = ["read"] * 8 + ["write"] * 10 + ["switch"] * 2 + ["clean"] * 2 + ["start", "stop"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS), st.integers(0, 127), st.integers(0, 13), st.integers(0, 1 << 12)
    ),
    min_size=1,
    max_size=80,
)
BITS = st.lists(
    st.sampled_from([WRITABLE | ACCESSED | DIRTY, WRITABLE | ACCESSED, WRITABLE, ACCESSED, 0]),
    min_size=1,
    max_size=24,
)


SMALL = replace(KVM, shadow_pool_frames=32)
TRACKERS = [
    SMALL,
    replace(SMALL, clean=CleanPolicy.BLOW),
    replace(SMALL, clean=CleanPolicy.BLOW, memory_slots=5, slot_zap=SlotZap.SLOT),
    replace(SMALL, group_opening=GroupOpening.UFFD_SHARED),
    replace(SMALL, group=GroupPolicy(4), group_opening=GroupOpening.UFFD_SHARED),
    replace(SMALL, group_opening=GroupOpening.UFFD_POPULATED),
    replace(SMALL, group=GroupPolicy(16), group_opening=GroupOpening.UFFD_POPULATED),
]
"""KVM's own log, its memory slots, and page groups by userfaultfd."""


@settings(max_examples=200)
@given(STEPS, BITS, st.sampled_from(TRACKERS))
def test_the_model_does_what_the_rules_say(
    steps: list[tuple[str, int, int, int]], bits: list[int], tracker: TrackerConfig
) -> None:
    both = make(tracker, bits)
    for kind, page, slot, value in [("start", 0, 0, 0), *steps]:
        both.step(kind, page, slot, value)
        both.compare_counters()
        if kind == "clean":
            both.compare()
    both.compare()


@pytest.mark.parametrize("tracker", TRACKERS, ids=lambda t: f"{t.clean_policy}-{t.group_opening}")
def test_long_runs_come_by_everything_that_is_counted(tracker: TrackerConfig) -> None:
    """Floods and recycling need more steps than a short program has."""
    rng = np.random.default_rng(3)
    total: Counter[str] = Counter()
    for _ in range(8):
        bits = rng.choice([WRITABLE | ACCESSED | DIRTY, WRITABLE | ACCESSED, ACCESSED], 8).tolist()
        both = make(tracker, bits)
        both.step("start", 0, 0, 0)
        for kind in rng.choice(KINDS, 250).tolist():
            both.step(kind, *rng.integers(0, 4096, 3).tolist())
            both.compare_counters()
        both.compare()
        total += both.reference.count
    blows = tracker.clean_policy is CleanPolicy.BLOW  # which makes all the room there is
    assert all(total[name] > 0 for name in COUNTERS if not (blows and name == "mmu_recycled")), (
        total
    )
    assert (total["userfault"] > 0) == tracker.uses_userfaultfd
