"""Loading CR3, INVLPG and guest TLB flushes, as the hypervisor sees them."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.account import BASE
from paging_core.kernels.out_of_sync import resync_all
from paging_core.kernels.shadow_pages import get_page, make_room, pin
from paging_core.kernels.state import L4, SHADOW, Core
from paging_core.kernels.tlb import flush_tlb, invalidate_page


@kernel
def load_cr3(m: Core, root: int) -> None:
    """Make `root` the current L4 table; under shadow paging its shadow is built and pinned."""
    m.vcpu.cr3 = root
    if m.paging == SHADOW:
        resync_all(m)
        if m.shadow.root >= 0:
            make_room(m)
        m.shadow.root = get_page(m, root, L4)
        pin(m, m.shadow.root)
    flush_tlb(m, BASE)


@kernel
def guest_invalidate(m: Core, va: int) -> None:
    """INVLPG by the guest."""
    if m.paging == SHADOW:
        resync_all(m)
    invalidate_page(m, va)


@kernel
def guest_flush(m: Core) -> None:
    """A full TLB flush by the guest (CR3 reloaded with itself)."""
    if m.paging == SHADOW:
        resync_all(m)
    flush_tlb(m, BASE)
