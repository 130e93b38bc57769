"""Loading CR3, INVLPG and guest TLB flushes, as the hypervisor sees them."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause
from paging_core.kernels.account import BASE
from paging_core.kernels.arrays import page_at
from paging_core.kernels.kvm_roots import kvm_load_root
from paging_core.kernels.kvm_unsync import sync_address, sync_below
from paging_core.kernels.out_of_sync import resync_all
from paging_core.kernels.shadow_pages import find_page, get_page, make_room, pin, put_page
from paging_core.kernels.state import L4, SHADOW, Core
from paging_core.kernels.tlb import flush_tlb, invalidate_page

_TEARDOWN = int(Cause.TEARDOWN)


@kernel
def _set_root(m: Core, root: int) -> None:
    """Xen's sh_set_toplevel_shadow: pin the new root, refer to it, let go of the old one.

    A blow has unpinned the old one: with the vCPU's reference it loses its last, and goes with
    all that was built below it since.
    """
    old = m.shadow.root
    if old >= 0 and find_page(m, root, L4) < 0:
        make_room(m)
    page = get_page(m, root, L4)
    pin(m, page)
    page_at(m, page).refs += 1
    m.shadow.root = page
    if old >= 0:
        put_page(m, old, _TEARDOWN if m.shadow.root_blown else BASE)
    m.shadow.root_blown = 0


@kernel
def load_cr3(m: Core, root: int) -> None:
    """Make `root` the current L4 table; under shadow paging its shadow is built and pinned."""
    m.vcpu.cr3 = root
    if m.kvm.mmu:
        kvm_load_root(m, root)
    elif m.paging == SHADOW:
        resync_all(m)
        _set_root(m, root)
    flush_tlb(m, BASE)


@kernel
def guest_invalidate(m: Core, va: int) -> None:
    """INVLPG by the guest."""
    if m.kvm.mmu:
        sync_address(m, va)
    elif m.paging == SHADOW:
        resync_all(m)
    invalidate_page(m, va)


@kernel
def guest_flush(m: Core) -> None:
    """A full TLB flush by the guest: CR3 reloaded with itself, which pins its shadow again."""
    if m.kvm.mmu:
        sync_below(m, m.shadow.root)
    elif m.paging == SHADOW:
        resync_all(m)
        _set_root(m, m.vcpu.cr3)
    flush_tlb(m, BASE)
