"""Revoking write access under shadow paging: Xen's way and KVM's."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.arrays import dirty, frame_at, page_at
from paging_core.kernels.kvm_roots import delete_slots
from paging_core.kernels.shadow_entries import revoke_writes
from paging_core.kernels.shadow_pages import empty_page, unpin
from paging_core.kernels.state import Core
from paging_core.kernels.tlb import flush_tlb

_TEARDOWN = int(Cause.TEARDOWN)
_PROTECT = int(Event.WRITE_PROTECT_FRAME)
_PROTECT_CAUSE = int(Cause.WRITE_PROTECT)
_TLB = int(Cause.TLB)


@kernel
def blow_tables(m: Core, everything: bool) -> None:
    """Xen's shadow_blow_tables: unpin every root, empty the one in use, flush. KVM: `delete_slots`.

    The one in use is unpinned too. It lives on by the vCPU's reference, until CR3 is loaded.
    """
    if m.kvm.mmu:
        delete_slots(m, everything)
        return
    if page_at(m, m.shadow.root).pinned:
        m.shadow.root_blown = 1
    page = m.shadow.pin_tail
    while page >= 0:
        before = page_at(m, page).pin_prev
        unpin(m, page, _TEARDOWN)
        page = before
    empty_page(m, m.shadow.root, _TEARDOWN)
    flush_tlb(m, _TLB)


@kernel
def protect_all(m: Core) -> None:
    """Clear W through the reverse map for every frame, when logging starts."""
    for gfn in range(m.n_frames):
        if frame_at(m, gfn).rmap >= 0:
            revoke_writes(m, gfn)
            pay(m, _PROTECT, _PROTECT_CAUSE, 1)
    flush_tlb(m, _TLB)


@kernel
def protect_dirty(m: Core) -> None:
    """KVM: clear W through the reverse map, for the frames that are dirty and no others."""
    for word in range(m.log.dirty_words):
        bits = dirty(m)[word]
        if bits == 0:
            continue
        for bit in range(64):
            if (bits >> bit) & 1:
                revoke_writes(m, word * 64 + bit)
                pay(m, _PROTECT, _PROTECT_CAUSE, 1)
    flush_tlb(m, _TLB)
