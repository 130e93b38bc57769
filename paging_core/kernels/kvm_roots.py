"""Roots of KVM's shadows: the current one and three that were current before it; memory slots.

arch/x86/kvm/mmu/mmu.c: kvm_mmu_new_pgd, cached_root_find_and_keep_current, kvm_mmu_load. A root
that falls out of the four loses no more than that: it and all below it stay in the hash.

Deleting a memory slot zaps every shadow page of the guest, whatever slot it belongs to, unless
KVM_X86_QUIRK_SLOT_ZAP_ALL is off (kvm_arch_flush_shadow_memslot): then what maps the slot, and the
shadow pages whose guest table lies in it; direct pages stay, empty.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.arrays import buckets, page_at
from paging_core.kernels.bitmap import is_dirty
from paging_core.kernels.kvm_pages import (
    bucket_of,
    find_role,
    hold_root,
    make_room,
    new_page,
    release_root,
    zap_mappings,
    zap_one,
    zap_page,
)
from paging_core.kernels.kvm_unsync import sync_below
from paging_core.kernels.state import FL1, L4, N_PREVIOUS_ROOTS, USER, WRITABLE, Core
from paging_core.kernels.tlb import flush_tlb

_LOOKUP = int(Event.SLOT_LOOKUP)
_TEARDOWN = int(Cause.TEARDOWN)
_TLB = int(Cause.TLB)


@kernel
def _new_root(m: Core, gfn: int) -> int:
    make_room(m)
    page = find_role(m, gfn, L4, WRITABLE | USER)
    if page < 0:
        page = new_page(m, gfn, L4, WRITABLE | USER, gfn)
    hold_root(m, page)
    return page


@kernel
def _is_root_of(m: Core, page: int, gfn: int) -> bool:
    return page >= 0 and page_at(m, page).gfn == gfn and page_at(m, page).invalid == 0


@kernel
def kvm_load_root(m: Core, gfn: int) -> None:
    """CR3 is loaded, and without PCIDs all translations with it go: what is below is synced."""
    root = m.shadow.root
    for i in range(N_PREVIOUS_ROOTS):
        if _is_root_of(m, root, gfn):
            break
        root, m.kvm.previous[i] = m.kvm.previous[i], root
    if not _is_root_of(m, root, gfn):
        if root >= 0:
            release_root(m, root)
        root = _new_root(m, gfn)
    m.shadow.root = root
    sync_below(m, root)


@kernel
def drop_obsolete_roots(m: Core) -> None:
    """What a vCPU does before it runs again: let go of zapped roots, load its own anew."""
    for i in range(N_PREVIOUS_ROOTS):
        root = m.kvm.previous[i]
        if root >= 0 and page_at(m, root).invalid:
            m.kvm.previous[i] = -1
            release_root(m, root)
    root = m.shadow.root
    if page_at(m, root).invalid:
        release_root(m, root)
        m.shadow.root = _new_root(m, m.vcpu.cr3)


@kernel
def _zap_every_page(m: Core) -> None:
    """kvm_mmu_zap_all_fast: every shadow page of the guest, oldest first."""
    while m.kvm.oldest >= 0:
        zap_one(m, m.kvm.oldest, _TEARDOWN)


@kernel
def _page_of_table(m: Core, gfn: int) -> int:
    """A shadow page of a guest table, or -1; a direct page has no table."""
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0 and (page_at(m, page).gfn != gfn or page_at(m, page).kind == FL1):
        page = page_at(m, page).hash_next
    return page


@kernel
def _zap_slot(m: Core, first: int, end: int) -> None:
    """kvm_mmu_zap_memslot: entries that map the slot, then shadow pages whose table lies in it."""
    pay(m, _LOOKUP, _TEARDOWN, end - first)
    for gfn in range(first, end):
        zap_mappings(m, gfn, _TEARDOWN)
    for gfn in range(first, end):
        page = _page_of_table(m, gfn)
        while page >= 0:
            zap_page(m, page, _TEARDOWN)
            page = _page_of_table(m, gfn)


@kernel
def _any_dirty(m: Core, first: int, end: int) -> bool:
    gfn = first
    while gfn < end and not is_dirty(m, gfn):
        gfn += 1
    return gfn < end


@kernel
def delete_slots(m: Core, everything: bool) -> None:
    """Memory slots are deleted and added again.

    Args:
        everything: all of them, and not only those with a dirty frame: no other has an entry
            that may be written. A single slot that takes all with it always goes.
    """
    whole = everything or (m.kvm.slot_frames >= m.n_frames and m.kvm.zaps_slot == 0)
    for first in range(0, m.n_frames, m.kvm.slot_frames):
        end = min(first + m.kvm.slot_frames, m.n_frames)
        if not whole and not _any_dirty(m, first, end):
            continue
        if m.kvm.zaps_slot:
            _zap_slot(m, first, end)
        else:
            _zap_every_page(m)
        flush_tlb(m, _TLB)
    drop_obsolete_roots(m)
