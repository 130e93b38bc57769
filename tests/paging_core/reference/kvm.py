"""KVM's shadow MMU in plain Python: dictionaries of pages and entries, straight from the rules.

Written from the description of arch/x86/kvm/mmu (docs/paging-model.md), without arrays, without a
reverse map and without a TLB: a page is looked for by going over all of them. It keeps its own copy
of guest memory and does to it what the guest's stores and the A and D bits do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.paging_core.reference.tracker import run_of
from tests.paging_core.reference.walker import (
    ACCESSED,
    DIRTY,
    PRESENT,
    SUPERPAGE,
    USER,
    WRITABLE,
    frame_of,
)

RIGHTS = WRITABLE | USER
MIN_FREE, REFILL = 5, 25
PREVIOUS_ROOTS = 3
FLOOD = 3


@dataclass
class Leaf:
    """A level-1 entry: what it maps, what the guest allows, what it allows now.

    Attributes:
        by_host: whether the host's own page tables let it be written when it was made.
    """

    gfn: int
    rights: int
    writable: bool
    accessed: bool
    by_host: bool = True


@dataclass
class Host:
    """The host's own page tables, where userfaultfd protects guest memory.

    Attributes:
        group: pages that its handler opens at a time.
        populated: what is opened is writable at once, and not when the host has faulted on it.
        protected, writable: gfns.
    """

    group: int
    populated: bool
    protected: set[int] = field(default_factory=set)
    writable: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Page:
    """One shadow page."""

    gfn: int
    level: int
    access: int
    direct: bool = False
    below: dict[int, Page] = field(default_factory=dict)
    leaves: dict[int, Leaf] = field(default_factory=dict)
    unsync: bool = False
    floods: int = 0
    gone: bool = False

    @property
    def role(self) -> tuple[int, int, int, bool]:
        return self.gfn, self.level, self.access, self.direct


@dataclass(frozen=True)
class Walk:
    """A guest walk: table and slot at each level that took part, from the root down."""

    gfn: int
    writable: bool
    steps: tuple[tuple[int, int], ...]


def slot_at(va: int, level: int) -> int:
    """The index into a table of a level."""
    return (va >> (3 + 9 * level)) & 511


class KvmReference:
    """One guest under KVM's shadow MMU.

    Attributes:
        words: its memory, a copy.
        dirty: gfns that are marked.
        count: what happened, by the names of `paging_core.kvm_counters.KvmCounters`.
        pages: every shadow page that can be found, oldest first.
        logging: whether writes are logged.
        host: None unless userfaultfd logs them, and not KVM.
        slots: memory slots, if a deleted one takes its own shadows alone; else 0.
    """

    def __init__(
        self,
        words: npt.NDArray[np.int64],
        cr3: int,
        limit: int,
        host: Host | None = None,
        slots: int = 0,
    ) -> None:
        self.host, self.slots = host, slots
        if host is not None:
            host.writable = set(range(len(words)))
        self.words = words.copy()
        self.limit = limit
        self.dirty: set[int] = set()
        self.count: Counter[str] = Counter()
        self.pages: list[Page] = []
        self.logging = False
        self.cr3 = cr3
        self.roots: list[Page] = []
        self.load(cr3)

    # -- what the guest does -------------------------------------------------------------------

    def walk(self, va: int) -> Walk | None:
        """Through the guest's tables; None where nothing is mapped."""
        table, writable, steps = self.cr3, True, []
        for level in (4, 3, 2, 1):
            slot = slot_at(va, level)
            steps.append((table, slot))
            entry = int(self.words[table, slot])
            if not self._is_there(entry):
                return None
            writable &= bool(entry & WRITABLE)
            target = frame_of(entry)
            if level == 2 and entry & SUPERPAGE:
                if target % 512 or target + 512 > len(self.words):
                    return None
                return Walk(target + slot_at(va, 1), writable, tuple(steps))
            table = target
        return Walk(table, writable, tuple(steps))

    def allows(self, va: int, write: bool) -> bool:
        """Whether the guest's own tables let an access through."""
        walk = self.walk(va)
        return walk is not None and (walk.writable or not write)

    def access(self, va: int, value: int | None = None) -> None:
        """A load, or a store of a word, that the guest's tables allow or a shadow entry does."""
        leaf, emulated = self._leaf(va), None
        if leaf is None or (value is not None and not leaf.writable):
            emulated = self._fault(va, value is not None)
            leaf = self._leaf(va)
        assert leaf is not None
        if emulated is None:
            leaf.accessed = True
        if value is not None:
            # The emulator walks the guest's tables: an entry out of sync may lead elsewhere.
            word = (va >> 3) & 511
            self.words[leaf.gfn if emulated is None else emulated, word] = value
            if emulated is not None:
                self._emulated(emulated, word)

    def load(self, cr3: int) -> None:
        """CR3: one of the roots that are kept, or another; all below it is synced."""
        self.cr3 = cr3
        same = [root for root in self.roots if root.gfn == cr3 and not root.gone]
        if not same:
            self.roots = self.roots[:PREVIOUS_ROOTS]  # the one that falls out is in use no more
            self._make_room()
            found = self._find(cr3, 4, RIGHTS, direct=False)
            same = [found or self._make(Page(cr3, 4, RIGHTS))]
        others = [root for root in self.roots if root is not same[0]]
        self.roots = [same[0], *others][: 1 + PREVIOUS_ROOTS]
        self._sync_below(same[0])

    # -- what the hypervisor is told -----------------------------------------------------------

    def start(self, *, blow: bool) -> None:
        """Writes are logged from here on."""
        self.logging, self.dirty = True, set()
        everything = set(range(len(self.words)))
        self.blow(everything) if blow else self.protect(everything)

    def clean(self, *, blow: bool) -> None:
        """Get and clear."""
        self.blow(self.dirty) if blow else self.protect(self.dirty)
        self.dirty = set()

    def stop(self) -> None:
        """No write is logged any more."""
        self.logging = False
        if self.host is not None:
            self._unmap(self.host.protected)
            self.host.writable |= self.host.protected if self.host.populated else set()
            self.host.protected = set()

    def protect(self, gfns: set[int]) -> None:
        """Nobody may write these frames unseen, by whatever alias."""
        if self.host is None:
            self._revoke(gfns)
            return
        self.host.protected |= gfns
        self.host.writable -= gfns
        self._unmap(gfns)

    def _revoke(self, gfns: set[int]) -> None:
        for leaf in self._all_leaves():
            if leaf.gfn in gfns:
                leaf.writable = False

    def _unmap(self, gfns: set[int]) -> None:
        for page in self.pages:
            page.leaves = {s: leaf for s, leaf in page.leaves.items() if leaf.gfn not in gfns}

    def blow(self, touched: set[int]) -> None:
        """Memory slots with a frame of these go and come back."""
        size = -(-len(self.words) // self.slots) if self.slots else len(self.words)
        for slot in sorted({gfn // size for gfn in touched}) if self.slots else [0]:
            gone = set(range(slot * size, (slot + 1) * size))
            if self.slots:
                self._unmap(gone)
            for page in list(self.pages):
                inside = page.gfn in gone and not page.direct
                if (inside or not self.slots) and not page.gone:
                    self._zap_with_unsync(page)
        self._let_go_of_zapped_roots()

    # -- the fault -----------------------------------------------------------------------------

    def _fault(self, va: int, write: bool) -> int | None:
        """The frame that a store goes to which has to be emulated; None for any other access."""
        self.count["pf_taken"] += 1
        walk = self.walk(va)
        assert walk is not None
        self._set_accessed_dirty(walk, write)
        if write and not self._is_tracked(walk.gfn):
            self._wait_for_host(walk.gfn)
        self._make_room()
        page = self._path(va, walk)
        slot, tracked = slot_at(va, 1), self._is_tracked(walk.gfn)
        old = page.leaves.get(slot)
        if write and tracked:
            self.count["pf_emulate"] += 1
            if old is None:
                self._wait_for_host(walk.gfn)
                by_host = self._by_host(walk.gfn)
                page.leaves[slot] = Leaf(walk.gfn, self._rights(page, slot), False, True, by_host)
                self._prefetch(page, slot)
            return walk.gfn
        rights, by_host = self._rights(page, slot), self._by_host(walk.gfn)
        allowed = bool(rights & WRITABLE) and by_host and not tracked
        new = Leaf(walk.gfn, rights, allowed, True, by_host)
        if new.writable:
            self._unsync(walk.gfn)
        if old == new:
            self.count["pf_spurious"] += 1
            return None
        self.count["pf_fixed"] += 1
        page.leaves[slot] = new
        self._prefetch(page, slot)
        if new.writable:
            self._log(walk.gfn)
        return None

    def _by_host(self, gfn: int) -> bool:
        return self.host is None or gfn in self.host.writable

    def _host_writes(self, gfn: int) -> bool:
        """Whether the handler had to open the page first."""
        if self.host is None or gfn in self.host.writable:
            return False
        slept = gfn in self.host.protected
        if slept:
            self.count["userfault"] += 1
            group = run_of(gfn, self.host.group, len(self.words)) & self.host.protected
            self._unmap(group)
            self.dirty |= group
            self.host.protected -= group
            self.host.writable |= group if self.host.populated else set()
        self.host.writable.add(gfn)
        return slept

    def _wait_for_host(self, gfn: int) -> None:
        self.count["pf_taken"] += self._host_writes(gfn)

    def _set_accessed_dirty(self, walk: Walk, write: bool) -> None:
        for table, slot in walk.steps:
            wanted = ACCESSED
            if write and (table, slot) == walk.steps[-1]:
                wanted |= DIRTY
            old = int(self.words[table, slot])
            if old | wanted != old:
                self.words[table, slot] = old | wanted
                self._store(table)

    def _path(self, va: int, walk: Walk) -> Page:
        page, access = self.roots[0], RIGHTS
        page.floods = 0
        for level, (table, slot) in zip((4, 3, 2), walk.steps, strict=False):
            entry = int(self.words[table, slot])
            access &= entry
            direct = level == 2 and bool(entry & SUPERPAGE)
            if direct and not entry & DIRTY:
                access &= ~WRITABLE
            child = page.below.get(slot)
            if direct and child is not None and child.access != access:
                del page.below[slot]
                child = None
            if child is None:
                gfn = walk.gfn - slot_at(va, 1) if direct else frame_of(entry)
                child = self._get(gfn, level - 1, access, direct=direct)
                page.below[slot] = child
            child.floods = 0
            page = child
        return page

    def _get(self, gfn: int, level: int, access: int, *, direct: bool) -> Page:
        page = self._find(gfn, level, access, direct=direct)
        if page is None:
            return self._make(Page(gfn, level, access, direct))
        if page.unsync:
            self._sync(page)
        if level > 1:
            self._sync_below(page)
        return page

    def _make(self, page: Page) -> Page:
        self.count["mmu_cache_miss"] += 1
        if page.level > 1:
            for other in [p for p in self.pages if p.gfn == page.gfn and p.unsync]:
                self._zap(other)
        if not page.direct:
            self._revoke({page.gfn})
        self.pages.append(page)
        return page

    def _prefetch(self, page: Page, faulted: int) -> None:
        for slot in range(faulted & ~7, (faulted & ~7) + 8):
            if slot == faulted or slot in page.leaves:
                continue
            entry = self._guest_entry(page, slot)
            if not self._is_there(entry) or not entry & ACCESSED:
                return
            gfn, rights = frame_of(entry), self._rights(page, slot)
            if not self._by_host(gfn) or (rights & WRITABLE and self._kvm_logs()):
                return
            tables = [p for p in self._shadows(gfn) if not p.unsync]
            page.leaves[slot] = Leaf(gfn, rights, bool(rights & WRITABLE) and not tables, False)

    def _rights(self, page: Page, slot: int) -> int:
        entry = self._guest_entry(page, slot)
        rights = entry & page.access & RIGHTS
        return rights if entry & DIRTY else rights & ~WRITABLE

    def _guest_entry(self, page: Page, slot: int) -> int:
        if not page.direct:
            return int(self.words[page.gfn, slot])
        dirty = DIRTY if page.access & WRITABLE else 0
        return (page.gfn + slot) << 12 | PRESENT | ACCESSED | dirty | page.access

    # -- tables that the guest writes ------------------------------------------------------------

    def _shadows(self, gfn: int) -> list[Page]:
        return [page for page in self.pages if page.gfn == gfn and not page.direct]

    def _is_tracked(self, gfn: int) -> bool:
        return any(page.level > 1 for page in self._shadows(gfn))

    def _unsync(self, gfn: int) -> None:
        for page in self._shadows(gfn):
            page.unsync = True

    def _emulated(self, gfn: int, slot: int) -> None:
        self._store(gfn)
        for page in self._shadows(gfn):
            page.below.pop(slot, None)
            page.leaves.pop(slot, None)
            if page.level > 1:
                page.floods += 1
                self.count["mmu_pde_zapped"] += bool(self.words[gfn, slot])
        for page in self._shadows(gfn):
            if page.floods >= FLOOD and not page.gone:
                self.count["mmu_flooded"] += 1
                self._zap_with_unsync(page)
        self._let_go_of_zapped_roots()

    def _sync(self, page: Page) -> None:
        for slot, leaf in list(page.leaves.items()):
            entry = self._guest_entry(page, slot)
            there = self._is_there(entry) and entry & ACCESSED and frame_of(entry) == leaf.gfn
            rights = self._rights(page, slot)
            if not there:
                del page.leaves[slot]
            elif rights != leaf.rights:
                allowed = rights & WRITABLE and leaf.by_host and not self._shadows(leaf.gfn)
                page.leaves[slot] = Leaf(leaf.gfn, rights, bool(allowed), True, leaf.by_host)
                if allowed:
                    self._log(leaf.gfn)

    def _sync_below(self, top: Page) -> None:
        for page in [p for p in self._below(top) if p.unsync]:
            self._revoke({page.gfn})
            page.unsync = False
            self._sync(page)

    # -- life and death --------------------------------------------------------------------------

    def _below(self, top: Page) -> list[Page]:
        found = [top]
        for page in found:
            found += [child for child in page.below.values() if child not in found]
        return found

    def _zap(self, page: Page) -> None:
        self.count["mmu_shadow_zapped"] += 1
        page.gone, page.unsync = True, False
        page.below, page.leaves = {}, {}
        self.pages.remove(page)
        for parent in self.pages:
            parent.below = {s: child for s, child in parent.below.items() if child is not page}

    def _zap_with_unsync(self, page: Page) -> None:
        for below in [p for p in self._below(page) if p.unsync and p is not page]:
            self._zap(below)
        self._zap(page)

    def _let_go_of_zapped_roots(self) -> None:
        zapped = [root for root in self.roots if root.gone]
        self.count["mmu_shadow_zapped"] += len(zapped)
        current = self.roots[0]
        self.roots = [root for root in self.roots if not root.gone]
        if current.gone:
            previous = self.roots
            self._make_room()
            self.roots = [self._find(self.cr3, 4, RIGHTS, direct=False) or self._make(
                Page(self.cr3, 4, RIGHTS)), *previous]  # fmt: skip

    def _make_room(self) -> None:
        free = self.limit - len(self.pages)
        if free >= MIN_FREE:
            return
        while self.limit - len(self.pages) < REFILL:
            victims = [page for page in self.pages if page not in self.roots]
            if not victims:
                return
            before = len(self.pages)
            self._zap_with_unsync(victims[0])
            self.count["mmu_recycled"] += before - len(self.pages)

    # -- small things ------------------------------------------------------------------------------

    def _find(self, gfn: int, level: int, access: int, *, direct: bool) -> Page | None:
        role = (gfn, level, access, direct)
        return next((page for page in self.pages if page.role == role), None)

    def _leaf(self, va: int) -> Leaf | None:
        page: Page | None = self.roots[0]
        for level in (4, 3, 2):
            page = page.below.get(slot_at(va, level)) if page is not None else None
        return page.leaves.get(slot_at(va, 1)) if page is not None else None

    def _all_leaves(self) -> list[Leaf]:
        return [leaf for page in self.pages for leaf in page.leaves.values()]

    def _kvm_logs(self) -> bool:
        return self.logging and self.host is None

    def _log(self, gfn: int) -> None:
        if self._kvm_logs():
            self.dirty.add(gfn)

    def _store(self, gfn: int) -> None:
        """KVM itself stores to a frame, through the host's page tables."""
        self._log(gfn)
        self._host_writes(gfn)

    def _is_there(self, entry: int) -> bool:
        return bool(entry & PRESENT) and frame_of(entry) < len(self.words)
