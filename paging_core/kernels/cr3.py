"""Loading CR3, INVLPG and guest TLB flushes, as the hypervisor sees them.

Under shadow paging both instructions exit (Xen: CPU_BASED_CR3_LOAD_EXITING and
CPU_BASED_INVLPG_EXITING, arch/x86/hvm/vmx/vmcs.c; KVM: handle_cr and handle_invlpg of vmx.c),
logged or not; under HAP neither does.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import page_at
from paging_core.kernels.guest_walk import slot_of
from paging_core.kernels.kvm_roots import kvm_load_root
from paging_core.kernels.kvm_unsync import sync_address, sync_below
from paging_core.kernels.out_of_sync import forget_slot, is_out_of_sync, resync_all
from paging_core.kernels.shadow_pages import find_page, get_page, make_room, pin, put_page
from paging_core.kernels.shadow_walk import shadow_l1
from paging_core.kernels.state import FL1, L4, SHADOW, Core
from paging_core.kernels.tlb import flush_tlb, invalidate_page
from paging_core.units import FRAME_SHIFT

_TEARDOWN = int(Cause.TEARDOWN)
_REBUILD = int(Cause.REBUILD)
_EXIT = int(Event.EXIT)
_LOAD = int(Event.CR3_LOAD)
_INVLPG = int(Event.INVLPG)


@kernel
def _pay_exit(m: Core, event: int) -> None:
    if m.paging == SHADOW:
        pay(m, _EXIT, BASE, 1)
        pay(m, event, BASE, 1)


@kernel
def _hold_root(m: Core, page: int) -> None:
    pin(m, page)
    page_at(m, page).refs += 1
    m.shadow.root = page
    m.shadow.root_blown = 0


@kernel
def _set_root(m: Core, root: int) -> None:
    """Xen's sh_set_toplevel_shadow: pin the new root, refer to it, let go of the old one.

    A blow has unpinned the old one: with the vCPU's reference it loses its last, and goes with
    all that was built below it since.
    """
    old = m.shadow.root
    cause = _TEARDOWN if m.shadow.root_blown else BASE
    if old >= 0 and find_page(m, root, L4) < 0:
        make_room(m)
    _hold_root(m, get_page(m, root, L4))
    if old >= 0:
        put_page(m, old, cause)


@kernel
def change_mode(m: Core) -> None:
    """Logging is switched on or off: the vCPU lets go of its root and loads it anew.

    Xen: sh_update_paging_modes of sh_new_mode (common.c), which does sh_detach_old_tables,
    shadow_resync_all and update_cr3. A blow has unpinned the root: then it goes, is built again and
    pinned. KVM has no modes for it.
    """
    if m.kvm.mmu:
        return
    put_page(m, m.shadow.root, _TEARDOWN)
    resync_all(m, _REBUILD)
    pay(m, _LOAD, _REBUILD, 1)
    _hold_root(m, get_page(m, m.vcpu.cr3, L4))


@kernel
def set_root(m: Core, root: int) -> None:
    """Make `root` the current L4 table; under shadow paging its shadow is built and pinned."""
    m.vcpu.cr3 = root
    if m.kvm.mmu:
        kvm_load_root(m, root)
    elif m.paging == SHADOW:
        resync_all(m, BASE)
        _set_root(m, root)
    flush_tlb(m, BASE)


@kernel
def load_cr3(m: Core, root: int) -> None:
    """The guest loads CR3."""
    _pay_exit(m, _LOAD)
    set_root(m, root)


@kernel
def _xen_invlpg(m: Core, va: int) -> None:
    """sh_invlpg (multi.c): one entry of a table out of sync goes, a splintered superpage whole."""
    page = shadow_l1(m, va)
    if page < 0:
        return
    p = page_at(m, page)
    if p.kind == FL1:
        flush_tlb(m, BASE)
    elif is_out_of_sync(m, p.gfn):
        forget_slot(m, page, slot_of(va, 1))


@kernel
def guest_invalidate(m: Core, va: int, pages: int) -> None:
    """INVLPG by the guest.

    Args:
        va: in the page.
        pages: of 4 KiB that a translation of the page may have been broken into; 1 or 512.
    """
    _pay_exit(m, _INVLPG)
    if m.kvm.mmu:
        sync_address(m, va)
    elif m.paging == SHADOW:
        _xen_invlpg(m, va)
    for i in range(pages):
        invalidate_page(m, va + (i << FRAME_SHIFT))


@kernel
def guest_flush(m: Core) -> None:
    """A full TLB flush by the guest: CR3 reloaded with itself, which pins its shadow again."""
    _pay_exit(m, _LOAD)
    if m.kvm.mmu:
        sync_below(m, m.shadow.root)
    elif m.paging == SHADOW:
        resync_all(m, BASE)
        _set_root(m, m.vcpu.cr3)
    flush_tlb(m, BASE)
