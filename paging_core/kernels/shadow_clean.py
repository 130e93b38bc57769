"""Revoking write access under shadow paging: Xen's way and KVM's."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.out_of_sync import resync_all
from paging_core.kernels.shadow_entries import revoke_writes
from paging_core.kernels.shadow_pages import empty_page, unpin
from paging_core.kernels.state import Machine
from paging_core.kernels.tlb import flush_tlb

_TEARDOWN = int(Cause.TEARDOWN)
_PROTECT = int(Event.WRITE_PROTECT_FRAME)
_PROTECT_CAUSE = int(Cause.WRITE_PROTECT)
_TLB = int(Cause.TLB)


@kernel
def blow_tables(m: Machine) -> None:
    """Xen's shadow_blow_tables: unpin every root, empty the one in use, flush."""
    resync_all(m)
    host = m.host[0]
    page = host.pin_tail
    while page >= 0:
        before = m.pages[page].pin_prev
        if page != host.root:
            unpin(m, page, _TEARDOWN)
        page = before
    empty_page(m, host.root, _TEARDOWN)
    flush_tlb(m, _TLB)


@kernel
def protect_all(m: Machine) -> None:
    """Clear W through the reverse map for every frame, when logging starts."""
    resync_all(m)
    for gfn in range(m.frames.shape[0]):
        if m.frames[gfn].rmap >= 0:
            revoke_writes(m, gfn)
            pay(m, _PROTECT, _PROTECT_CAUSE, 1)
    flush_tlb(m, _TLB)


@kernel
def protect_dirty(m: Machine) -> None:
    """KVM: clear W through the reverse map, for the frames that are dirty and no others."""
    resync_all(m)
    for word in range(m.dirty.shape[0]):
        bits = m.dirty[word]
        if bits == 0:
            continue
        for bit in range(64):
            if (bits >> bit) & 1:
                revoke_writes(m, word * 64 + bit)
                pay(m, _PROTECT, _PROTECT_CAUSE, 1)
    flush_tlb(m, _TLB)
