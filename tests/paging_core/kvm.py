"""A window of guest pages under KVM's shadow MMU, set up as the measured guest was.

The guest is moved, so that nothing of it is shadowed, as after a memory slot was deleted and added
again; then its page table entries are put into its memory as a test wants them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paging_core import log_dirty
from paging_core.config import Hypervisor, MemoryFill, TrackerConfig
from paging_core.kvm_counters import KvmCounters, kvm_counters
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from paging_core.workloads.ops import Ops
from tests.paging_core.reference.harness import boot, move, walker
from tests.paging_core.reference.programs import Op, as_ops
from tests.paging_core.reference.walker import ACCESSED, DIRTY, PRESENT, SUPERPAGE, WRITABLE

FIRST_PAGE = 0x8000
"""Of the window: the first address of an L1 table, and of a 2 MiB page."""
KVM = TrackerConfig(hypervisor=Hypervisor.KVM)


def accesses(kind: int, pages: list[int]) -> Ops:
    """One access to each page."""
    return as_ops([Op(kind, page << 12, 1) for page in pages])


@dataclass
class Window:
    """A guest with `pages` mapped from `first` on.

    Attributes:
        guest: it.
        pages: page numbers of the window, in order.
    """

    guest: ModelGuest
    pages: list[int]

    @property
    def counters(self) -> KvmCounters:
        """What KVM has counted."""
        return kvm_counters(self.guest)

    def counted(self, kind: int, pages: list[int]) -> KvmCounters:
        """What accesses to some pages add."""
        before = self.counters
        self.guest.execute(accesses(kind, pages))
        return self.counters - before

    def read(self, pages: list[int] | None = None) -> KvmCounters:
        """Read pages, or all of the window."""
        return self.counted(ops.READ, self.pages if pages is None else pages)

    def write(self, pages: list[int] | None = None) -> KvmCounters:
        """Write them."""
        return self.counted(ops.WRITE, self.pages if pages is None else pages)

    def frames(self) -> set[int]:
        """Gfns of the window."""
        leaves = walker(self.guest).leaves()
        return {leaves[page << 12].gfn for page in self.pages}

    def dirty(self) -> tuple[int, int]:
        """How many frames of the window are dirty, and how many others."""
        marked = set(log_dirty.frames_of(self.guest.peek()).tolist())
        inside = len(marked & self.frames())
        return inside, len(marked) - inside


def make_window(
    count: int,
    *,
    bits: int,
    tracker: TrackerConfig = KVM,
    huge: bool = False,
    step: int = 1,
    beside: int | None = None,
    aligned: bool = False,
) -> Window:
    """A window whose leaf entries have of W, A and D just `bits`, and all above it A.

    Args:
        count: pages.
        bits: of WRITABLE, ACCESSED and DIRTY.
        tracker: how it is shadowed.
        huge: in guest pages of 2 MiB.
        step: from page to page.
        beside: a page that is mapped as well.
        aligned: its frames are one run of gfns from a multiple of 1024 on, without a table.
    """
    tables = count * step // 512 + 8
    room = count + 2048 if aligned else 0
    guest = boot(tracker, count + 2 * tables + 1024 + room, fill=MemoryFill.ZERO)
    pages = [FIRST_PAGE + i * step for i in range(count)]
    kind = ops.MMAP_HUGE if huge else ops.MMAP
    maps = [(FIRST_PAGE, count)] if step == 1 else [(page, 1) for page in pages]
    guest.execute(as_ops([Op(kind, first << 12, length) for first, length in maps]))
    if beside is not None:
        guest.execute(as_ops([Op(ops.MMAP, beside << 12, 1)]))
    guest = move(guest)
    for table in walker(guest).tables(below_va=1 << 47):
        row = guest.memory.words[table.gfn]
        present = (row & PRESENT) != 0
        is_leaf = present & ((table.level == 1) | ((row & SUPERPAGE) != 0))
        row[present & ~is_leaf] |= ACCESSED
        row[is_leaf] = row[is_leaf] & ~np.int64(WRITABLE | ACCESSED | DIRTY) | bits
    if aligned:
        _align(guest, pages, -(-(count + 2 * tables + 1024) // 1024) * 1024)
    return Window(guest, pages)


def _align(guest: ModelGuest, pages: list[int], first_gfn: int) -> None:
    leaves, words = walker(guest).leaves(), guest.memory.words
    for i, page in enumerate(pages):
        leaf = leaves[page << 12]
        words[leaf.table, leaf.slot] = words[leaf.table, leaf.slot] & 0xFFF | (first_gfn + i) << 12
