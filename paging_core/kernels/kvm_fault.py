"""The shadow page fault of KVM: walk, link what is there, make the entry, fill its block of 8.

arch/x86/kvm/mmu/paging_tmpl.h (page_fault, fetch, pte_prefetch), mmu.c (mmu_set_spte) and spte.c
(make_spte). Where it is unlike Xen's (shadow_fault.py):

* An entry is writable if the guest's own is (W and D set), for a read as well, and whatever frame
  becomes writable while writes are logged is marked dirty. Nobody asks whether it was.
* The aligned 8 entries around a fixed one are filled, in order, as far as the guest's own are there
  and accessed. Logging ends that at the first that would be writable: a prefetch marks nothing.
* A missing upper entry is looked up in the hash. If only that was missing, the fault is spurious:
  nothing is built, and nothing filled.
* A guest superpage is cut into the entries of a direct page, whose role holds the rights of the
  superpage's entry. When D changes them, another, empty page takes its place
  (validate_direct_spte).
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event, Fault
from paging_core.kernels.accessed_dirty import set_accessed_dirty
from paging_core.kernels.account import BASE, count_fault, pay
from paging_core.kernels.arrays import entries, memory, page_at
from paging_core.kernels.baseline import forget_page
from paging_core.kernels.bitmap import is_dirty
from paging_core.kernels.density import guest_leaf
from paging_core.kernels.guest_walk import Walk, frame_of, guest_walk, slot_of
from paging_core.kernels.kvm_baseline import BLOCK, cause_of, note_fault
from paging_core.kernels.kvm_pages import (
    find_role,
    link_child,
    make_room,
    new_page,
    unlink_child,
)
from paging_core.kernels.kvm_table_writes import flood_table, trap_store
from paging_core.kernels.kvm_unsync import (
    install,
    is_tracked,
    may_map_writable,
    rights_of,
    sync_below,
    sync_entries,
)
from paging_core.kernels.shadow_entries import set_l1_entry
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    FL1,
    GUEST_WRITES,
    HOST_WRITES,
    L1,
    L2,
    L3,
    PRESENT,
    SLOT_MASK,
    USER,
    WRITABLE,
    Core,
)
from paging_core.kernels.tlb import fill_tlb, flush_tlb
from paging_core.kernels.translation import BLOCK_WRITE, EMULATE, GUEST_FAULT
from paging_core.kernels.userfault import OFF, host_lets_write, host_write, kvm_logs
from paging_core.kernels.virtual_groups import log_fixup
from paging_core.units import FRAME_SHIFT

_EXIT = int(Event.EXIT)
_FIXUP_EVENT = int(Event.FIXUP)
_BUILD_ENTRY = int(Event.SHADOW_L1E_BUILD)
_PREFETCH = int(Event.SHADOW_PREFETCH)
_FIXUP = int(Cause.FIXUP)
_REBUILD = int(Cause.REBUILD)
_F_READ_BUILD = int(Fault.READ_BUILD)
_F_WRITE_BUILD = int(Fault.WRITE_BUILD)
_F_WRITE_PROTECT = int(Fault.WRITE_PROTECT)
_MAY_FILL = PRESENT | ACCESSED
_ALL_RIGHTS = WRITABLE | USER


@kernel
def _page_of(m: Core, gfn: int, kind: int, access: int, key: int) -> int:
    """kvm_mmu_get_shadow_page: found in the hash and brought up to date, or made."""
    page = find_role(m, gfn, kind, access)
    if page < 0:
        return new_page(m, gfn, kind, access, key)
    page_at(m, page).floods = 0
    if page_at(m, page).unsync > 0:
        sync_entries(m, page)
    return page


@kernel
def _child(m: Core, entry_id: int, gfn: int, kind: int, access: int) -> int:
    """What an upper entry points to, linked if it does not yet."""
    entry = entries(m)[entry_id]
    if entry & PRESENT:
        child = entry >> FRAME_SHIFT
        page_at(m, child).floods = 0
        return child
    child = _page_of(m, gfn, kind, access, gfn)
    if kind >= L2:
        sync_below(m, child)
    link_child(m, entry_id, child)
    return child


@kernel
def _direct_child(m: Core, entry_id: int, gfn: int, access: int, key: int) -> int:
    """The direct page of a superpage, for its rights as they are now (validate_direct_spte)."""
    entry = entries(m)[entry_id]
    if entry & PRESENT:
        child = entry >> FRAME_SHIFT
        if page_at(m, child).access == access:
            return child
        forget_page(m, child)  # untracked, it would be replaced as well
        unlink_child(m, entry_id)
        flush_tlb(m, BASE)
    child = _page_of(m, gfn, FL1, access, key)
    link_child(m, entry_id, child)
    return child


@kernel
def _fetch(m: Core, va: int, walk: Walk) -> int:
    """Every page on the path of an address, from the root down; the id of the last L2 entry."""
    _, _, t3, t2, t1, _ = walk
    root = m.shadow.root
    page_at(m, root).floods = 0
    slot4, slot3, slot2 = slot_of(va, 4), slot_of(va, 3), slot_of(va, 2)
    access = memory(m)[m.vcpu.cr3 * ENTRIES + slot4] & _ALL_RIGHTS
    l3 = _child(m, root * ENTRIES + slot4, t3, L3, access)
    access &= memory(m)[t3 * ENTRIES + slot3]
    l2 = _child(m, l3 * ENTRIES + slot3, t2, L2, access)
    key = t2 * ENTRIES + slot2
    leaf = memory(m)[key]
    access &= leaf
    at = l2 * ENTRIES + slot2
    if t1 >= 0:
        _child(m, at, t1, L1, access)
    else:
        if leaf & DIRTY == 0:
            access &= ~WRITABLE
        _direct_child(m, at, walk[0] & ~SLOT_MASK, access, key)
    return at


@kernel
def _host_flag(m: Core, gfn: int) -> int:
    """What an entry remembers of the host's: whether it let the page be written (make_spte)."""
    return HOST_WRITES if m.uffd.mode != OFF and host_lets_write(m, gfn) else 0


@kernel
def _wait_for_host(m: Core, gfn: int) -> None:
    """kvm_faultin_pfn for a write; a fault that slept meanwhile is given up, and comes again."""
    if host_write(m, gfn):
        pay(m, _EXIT, _FIXUP, 1)
        m.kvm.taken += 1


@kernel
def _grants_write(m: Core, gfn: int, flags: int, write: int) -> bool:
    """make_spte: W for whatever the guest's entry lets be written; with --reads-map as Xen's."""
    if flags & GUEST_WRITES == 0:
        return False
    if not host_lets_write(m, gfn):
        return False
    keeps_reads_out = kvm_logs(m) and m.shadow.reads_map_writable == 0
    if write == 0 and keeps_reads_out and not is_dirty(m, gfn):
        return False
    return may_map_writable(m, gfn, True)


@kernel
def _pay_fault(m: Core, page: int, slot: int, gfn: int, write: int) -> int:
    """Charge for a fault that changes an entry; returns the cause of what else it brings."""
    cause = cause_of(m, page, slot, write)
    if cause == BASE:
        note_fault(m, page, slot)
    present = entries(m)[page * ENTRIES + slot] & PRESENT
    pay(m, _EXIT, cause, 1)
    pay(m, _FIXUP_EVENT if present else _BUILD_ENTRY, cause, 1)
    if present and write != 0:
        count_fault(m, _F_WRITE_PROTECT, gfn)
    else:
        count_fault(m, _F_WRITE_BUILD if write else _F_READ_BUILD, gfn)
    return cause


@kernel
def _prefetch(m: Core, page: int, slot: int, cause: int) -> None:
    """pte_prefetch; the entry that faulted and those that are there are passed over."""
    first = slot & ~(BLOCK - 1)
    for i in range(first, first + BLOCK):
        if i == slot or entries(m)[page * ENTRIES + i] & PRESENT:
            continue
        leaf = guest_leaf(m, page, i)
        if leaf & _MAY_FILL != _MAY_FILL:
            return
        gfn, flags = frame_of(leaf), rights_of(leaf) | _host_flag(m, frame_of(leaf))
        if not host_lets_write(m, gfn):
            return
        if flags & GUEST_WRITES:
            if kvm_logs(m):
                return
            if may_map_writable(m, gfn, False):
                flags |= WRITABLE | DIRTY
        set_l1_entry(m, page, i, gfn, flags)
        pay(m, _PREFETCH, cause, 1)


@kernel
def _trap(m: Core, gfn: int) -> int:
    """The store must be emulated: charge for it, once."""
    trap_store(m, gfn)
    m.kvm.trapped = 1
    return gfn + EMULATE


@kernel
def _spurious(m: Core, gfn: int, write: int) -> None:
    """Everything but a link on the way was right."""
    pay(m, _EXIT, BASE, 1)
    count_fault(m, _F_WRITE_BUILD if write else _F_READ_BUILD, gfn)
    m.kvm.spurious += 1


@kernel
def _make_entry(m: Core, page: int, slot: int, gfn: int, flags: int, write: int) -> None:
    cause = _pay_fault(m, page, slot, gfn, write)
    install(m, page, slot, gfn, flags)
    if m.shadow.prefetch:
        _prefetch(m, page, slot, _REBUILD if cause != BASE else BASE)


@kernel
def _fix(m: Core, va: int, write: int, gfn: int, parent_id: int) -> int:
    """The entry itself (mmu_set_spte), once its page is there."""
    page, slot = entries(m)[parent_id] >> FRAME_SHIFT, slot_of(va, 1)
    entry = entries(m)[page * ENTRIES + slot]
    flags = rights_of(guest_leaf(m, page, slot)) | ACCESSED
    if write != 0 and is_tracked(m, gfn):
        if entry & PRESENT == 0:
            _wait_for_host(m, gfn)
            set_l1_entry(m, page, slot, gfn, flags | _host_flag(m, gfn))
            if m.shadow.prefetch:
                _prefetch(m, page, slot, BASE)
        return _trap(m, gfn)
    flags |= _host_flag(m, gfn)
    granted = _grants_write(m, gfn, flags, write)
    if granted:
        flags |= WRITABLE | DIRTY
    m.kvm.taken += 1
    m.log.fault_count += 1
    if entry == (gfn << FRAME_SHIFT) | flags:
        _spurious(m, gfn, write)
    else:
        m.kvm.fixed += 1
        _make_entry(m, page, slot, gfn, flags, write)
        if granted and kvm_logs(m):
            log_fixup(m, page, slot, parent_id, gfn)
    return gfn


@kernel
def kvm_fault(m: Core, va: int, write: int) -> int:
    """Handle one shadow page fault and complete the access's translation.

    Returns:
        The gfn; gfn + EMULATE for a store to a write-tracked table; GUEST_FAULT.
    """
    walk = guest_walk(m, va)
    gfn = walk[0]
    if gfn < 0 or (write != 0 and walk[1] == 0):
        pay(m, _EXIT, BASE, 1)
        m.kvm.taken += 1
        m.kvm.to_guest += 1
        return GUEST_FAULT
    set_accessed_dirty(m, va, walk, write)
    if write == BLOCK_WRITE:
        flood_table(m, gfn)
    if write != 0 and not is_tracked(m, gfn):
        _wait_for_host(m, gfn)
    make_room(m)
    parent_id = _fetch(m, va, walk)
    found = _fix(m, va, write, gfn, parent_id)
    if found != gfn:
        return found
    page, slot = entries(m)[parent_id] >> FRAME_SHIFT, slot_of(va, 1)
    entry = entries(m)[page * ENTRIES + slot]
    writable = 1 if entry & (WRITABLE | DIRTY) == WRITABLE | DIRTY else 0
    fill_tlb(m, va >> FRAME_SHIFT, gfn, writable, 1 if entry & GUEST_WRITES else 0)
    return gfn
