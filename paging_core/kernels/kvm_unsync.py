"""L1 tables that the guest of KVM edits freely, and how its shadows catch up.

arch/x86/kvm/mmu/mmu.c. A table that is shadowed at level 1 alone may be written: its shadow pages
go out of sync with the first writable entry that maps it (mmu_try_to_unsync_pages), all of them
and for as long as nobody flushes; there is no snapshot and no limit. A table that is shadowed at
level 2 or above is write-tracked, and every store to it is emulated.

A CR3 load brings all that is below the root back in sync (mmu_sync_children): the table loses its
writable entries and each of 512 shadow entries is held against its guest entry (sync_spte of
paging_tmpl.h). INVLPG looks at one entry and leaves the table out of sync.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import buckets, entries, frame_at, page_at, stack
from paging_core.kernels.baseline import baseline_row, forget_entry, revoke_table_writes
from paging_core.kernels.bitmap import BY_FIXUP, mark_dirty
from paging_core.kernels.density import guest_leaf
from paging_core.kernels.guest_walk import frame_of, slot_of
from paging_core.kernels.kvm_pages import bucket_of, mark_below, set_in_sync, set_unsync
from paging_core.kernels.shadow_entries import clear_l1_entry, set_l1_entry
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    GUEST_WRITES,
    HOST_WRITES,
    L1,
    N_PREVIOUS_ROOTS,
    PRESENT,
    USER,
    WRITABLE,
    Core,
)
from paging_core.kernels.tlb import flush_tlb
from paging_core.kernels.userfault import OFF, kvm_logs
from paging_core.units import FRAME_SHIFT

_RESYNC = int(Event.RESYNC)
_RIGHTS = USER | GUEST_WRITES


@kernel
def is_tracked(m: Core, gfn: int) -> bool:
    """Whether every store to a frame is emulated: it is shadowed, and not only at level 1."""
    types = frame_at(m, gfn).types
    return types & ~(1 << L1) != 0 or (types != 0 and m.shadow.out_of_sync == 0)


@kernel
def may_map_writable(m: Core, gfn: int, demand: bool) -> bool:
    """Whether a writable entry for a frame may be made; if it is an L1 table, it goes out of sync.

    Args:
        demand: for a fault. A prefetch takes no table out of sync.
    """
    if frame_at(m, gfn).types == 0:
        return True
    if is_tracked(m, gfn):
        return False
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        p = page_at(m, page)
        if p.gfn == gfn and p.kind == L1 and p.unsync == 0:
            if not demand:
                return False
            set_unsync(m, page)
        page = p.hash_next
    return True


@kernel
def rights_of(leaf: int) -> int:
    """Flags of an entry that follow from its guest entry: no W while the guest's D is clear.

    protect_clean_gpte of paging_tmpl.h; the role's rights are in `guest_leaf` already.
    """
    flags = PRESENT | (leaf & USER)
    if leaf & (WRITABLE | DIRTY) == WRITABLE | DIRTY:
        flags |= GUEST_WRITES
    return flags


@kernel
def install(m: Core, page: int, slot: int, gfn: int, flags: int) -> None:
    """Make an entry exactly so (mmu_set_spte)."""
    entry_id = page * ENTRIES + slot
    old = entries(m)[entry_id]
    if old & PRESENT == 0 or frame_of(old) != gfn:
        set_l1_entry(m, page, slot, gfn, flags)
        return
    if old & DIRTY:
        frame_at(m, gfn).opened = 0
    entries(m)[entry_id] = (gfn << FRAME_SHIFT) | flags


@kernel
def _sync_entry(m: Core, page: int, slot: int) -> bool:
    """sync_spte; whether the entry changed.

    One whose rights are the same stays as it is, write-protected by the log or not. One that is
    writable from now on is marked dirty.
    """
    entry = entries(m)[page * ENTRIES + slot]
    if entry & PRESENT == 0:
        return False
    leaf, gfn = guest_leaf(m, page, slot), frame_of(entry)
    if leaf & PRESENT == 0 or leaf & ACCESSED == 0 or frame_of(leaf) != gfn:
        clear_l1_entry(m, page, slot)
        forget_entry(m, baseline_row(m, page), slot)
        return True
    flags = rights_of(leaf)
    if entry & _RIGHTS == flags & _RIGHTS:
        return False
    flags |= entry & HOST_WRITES
    if flags & GUEST_WRITES and frame_at(m, gfn).types == 0:
        if kvm_logs(m):
            mark_dirty(m, gfn, BY_FIXUP)
        if m.uffd.mode == OFF or flags & HOST_WRITES:
            flags |= WRITABLE | DIRTY
    install(m, page, slot, gfn, flags | ACCESSED)
    return True


@kernel
def sync_entries(m: Core, page: int) -> None:
    """Hold a page's entries against the guest's; it stays out of sync (kvm_sync_page)."""
    pay(m, _RESYNC, BASE, 1)
    changed = 0
    for slot in range(ENTRIES):
        changed += 1 if _sync_entry(m, page, slot) else 0
    if changed:
        flush_tlb(m, BASE)


@kernel
def sync_below(m: Core, top: int) -> None:
    """Bring every table below a page back in sync (mmu_sync_children)."""
    if m.kvm.unsync == 0:
        return
    mark_below(m, top)
    for i in range(m.kvm.unsync - 1, -1, -1):
        page = stack(m)[i]
        if page_at(m, page).mark != m.kvm.epoch:
            continue
        if revoke_table_writes(m, page_at(m, page).gfn) > 0:
            flush_tlb(m, BASE)
        set_in_sync(m, page)
        sync_entries(m, page)


@kernel
def _sync_address(m: Core, root: int, va: int) -> None:
    page = root
    for level in (4, 3, 2):
        entry = entries(m)[page * ENTRIES + slot_of(va, level)]
        if entry & PRESENT == 0:
            return
        page = entry >> FRAME_SHIFT
    if page_at(m, page).unsync > 0:
        _sync_entry(m, page, slot_of(va, 1))


@kernel
def sync_address(m: Core, va: int) -> None:
    """INVLPG: one entry, in the current and the previous roots (__kvm_mmu_invalidate_addr)."""
    if m.kvm.unsync == 0:
        return
    _sync_address(m, m.shadow.root, va)
    for i in range(N_PREVIOUS_ROOTS):
        if m.kvm.previous[i] >= 0:
            _sync_address(m, m.kvm.previous[i], va)
