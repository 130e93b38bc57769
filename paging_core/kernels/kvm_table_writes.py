"""Stores to write-tracked tables under KVM: emulated, and too many of them take the shadow away.

arch/x86/kvm/mmu/mmu.c: kvm_mmu_track_write, detect_write_flooding. Each store drops the one entry
that it changes; what that led to stays in the hash. The third since the page was last used by a
fault (or found in the hash) zaps the page: whoever writes so much is hardly a table.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event, Fault
from paging_core.kernels.account import BASE, count_fault, pay
from paging_core.kernels.arrays import buckets, entries, memory, page_at
from paging_core.kernels.baseline import baseline_row, forget_entry
from paging_core.kernels.bitmap import BY_LOG
from paging_core.kernels.kvm_pages import bucket_of, unlink_child, zap_page
from paging_core.kernels.kvm_roots import drop_obsolete_roots
from paging_core.kernels.kvm_unsync import is_tracked
from paging_core.kernels.shadow_entries import clear_l1_entry
from paging_core.kernels.state import ENTRIES, FL1, L1, L2, PRESENT, Core
from paging_core.kernels.tlb import flush_tlb
from paging_core.kernels.userfault import log_store

FLOOD = 3
"""Emulated writes with which a shadow page is zapped (detect_write_flooding)."""

_EXIT = int(Event.EXIT)
_EMULATED = int(Event.EMULATED_WRITE)
_F_EMULATED = int(Fault.EMULATED_WRITE)


@kernel
def trap_store(m: Core, gfn: int) -> None:
    """Charge for one store to a tracked table, and log it: the emulator marks what it writes."""
    pay(m, _EXIT, BASE, 1)
    pay(m, _EMULATED, BASE, 1)
    count_fault(m, _F_EMULATED, gfn)
    m.kvm.taken += 1
    m.kvm.emulated += 1
    log_store(m, gfn, BY_LOG)


@kernel
def _drop_entry(m: Core, page: int, slot: int) -> None:
    if entries(m)[page * ENTRIES + slot] & PRESENT == 0:
        return
    if page_at(m, page).kind == L1:
        clear_l1_entry(m, page, slot)
        forget_entry(m, baseline_row(m, page), slot)
    else:
        unlink_child(m, page * ENTRIES + slot)
    flush_tlb(m, BASE)


@kernel
def _flooded_page(m: Core, gfn: int) -> int:
    """A shadow page of the frame that was written too often, or -1."""
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        p = page_at(m, page)
        if p.gfn == gfn and p.kind >= L2 and p.floods >= FLOOD:
            return page
        page = p.hash_next
    return -1


@kernel
def _zap_flooded(m: Core, gfn: int) -> None:
    page = _flooded_page(m, gfn)
    if page < 0:
        return
    while page >= 0:
        m.kvm.flooded += 1
        zap_page(m, page, BASE)
        page = _flooded_page(m, gfn)
    flush_tlb(m, BASE)
    drop_obsolete_roots(m)


@kernel
def kvm_table_write(m: Core, gfn: int, slot: int) -> None:
    """A store to a table was emulated; the first of an operation was charged for by its fault."""
    if m.kvm.trapped == 0:
        if not is_tracked(m, gfn):
            return  # the stores before it took the shadows away: this one runs by itself
        trap_store(m, gfn)
    m.kvm.trapped = 0
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        p = page_at(m, page)
        if p.gfn == gfn and p.kind != FL1:
            if p.kind >= L2:
                p.floods += 1
                m.kvm.pde_zapped += 1 if memory(m)[gfn * ENTRIES + slot] else 0
            _drop_entry(m, page, slot)
        page = p.hash_next
    _zap_flooded(m, gfn)


@kernel
def _tracked_page(m: Core, gfn: int) -> int:
    """A shadow page for which the frame is write-tracked, or -1."""
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        p = page_at(m, page)
        if p.gfn == gfn and (p.kind >= L2 or (p.kind == L1 and m.shadow.out_of_sync == 0)):
            return page
        page = p.hash_next
    return -1


@kernel
def flood_table(m: Core, gfn: int) -> None:
    """The guest fills a tracked frame whole: the third store takes its shadows."""
    if not is_tracked(m, gfn):
        return
    for _ in range(FLOOD):
        trap_store(m, gfn)
    page = _tracked_page(m, gfn)
    while page >= 0:
        m.kvm.flooded += 1
        zap_page(m, page, BASE)
        page = _tracked_page(m, gfn)
    flush_tlb(m, BASE)
    drop_obsolete_roots(m)
