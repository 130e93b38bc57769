"""Roots of KVM's shadows: the current one and three that were current before it.

arch/x86/kvm/mmu/mmu.c: kvm_mmu_new_pgd, cached_root_find_and_keep_current, kvm_mmu_load. A root
that falls out of the four loses no more than that: it and all below it stay in the hash.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause
from paging_core.kernels.arrays import page_at
from paging_core.kernels.kvm_pages import (
    find_role,
    hold_root,
    make_room,
    new_page,
    release_root,
    zap_one,
)
from paging_core.kernels.kvm_unsync import sync_below
from paging_core.kernels.state import L4, N_PREVIOUS_ROOTS, USER, WRITABLE, Core
from paging_core.kernels.tlb import flush_tlb

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
def zap_all(m: Core) -> None:
    """The memory slot is deleted and added again: every shadow page goes, oldest first.

    kvm_mmu_zap_all_fast, as KVM_X86_QUIRK_SLOT_ZAP_ALL has it.
    """
    while m.kvm.oldest >= 0:
        zap_one(m, m.kvm.oldest, _TEARDOWN)
    flush_tlb(m, _TLB)
    drop_obsolete_roots(m)
