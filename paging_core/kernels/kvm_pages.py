"""KVM's shadow pages: found by guest table and role, freed by zapping alone.

arch/x86/kvm/mmu/mmu.c. A shadow page is named by the guest frame that it shadows and its role: the
level, and the rights of the path that leads to it (`union kvm_mmu_page_role`). Address spaces
share it. It does not die with its parents or its root: it stays in the hash until it is zapped
(a blow, a flood of writes) or recycled, oldest first, because the limit is reached. Its children
stay likewise when it is zapped.

The piece of a guest superpage is a *direct* page (FL1 here): it shadows no table, its role holds
the rights of the superpage's entry, and its entries follow from its first frame.

Parents are kept on a list (`parent_ptes`): `up` of the page, then `links`, by entry.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import buckets, entries, frame_at, links, page_at, stack
from paging_core.kernels.baseline import forget_page, revoke_table_writes
from paging_core.kernels.flow import SHADOW_BUILT, SHADOW_DROPPED, note
from paging_core.kernels.shadow_entries import clear_l1_entry
from paging_core.kernels.state import (
    ENTRIES,
    FL1,
    FREE,
    L1,
    L2,
    PRESENT,
    SLOT_MASK,
    Core,
)
from paging_core.kernels.tlb import flush_tlb
from paging_core.units import FRAME_SHIFT

MIN_FREE_PAGES = 5
REFILL_PAGES = 25
"""KVM_MIN_FREE_MMU_PAGES, KVM_REFILL_PAGES: with fewer free, pages are recycled up to so many."""

_BUILD = int(Event.SHADOW_PAGE_BUILD)
_DROP_PAGE = int(Event.SHADOW_TEARDOWN_PAGE)
_DROP_ENTRY = int(Event.SHADOW_TEARDOWN_ENTRY)
_REBUILD = int(Cause.REBUILD)
_TLB = int(Cause.TLB)


@kernel
def bucket_of(m: Core, gfn: int) -> int:
    """The hash chain that holds every shadow page of a guest frame, whatever its role."""
    return (gfn * 2654435761 >> 8) % m.shadow.n_buckets


@kernel
def find_role(m: Core, gfn: int, kind: int, access: int) -> int:
    """The shadow page of a guest frame in a role, or -1."""
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        p = page_at(m, page)
        if p.gfn == gfn and p.kind == kind and p.access == access:
            return page
        page = p.hash_next
    return -1


@kernel
def link_child(m: Core, entry_id: int, child: int) -> None:
    """Let an entry of an upper page point to a page."""
    p = page_at(m, child)
    entries(m)[entry_id] = (child << FRAME_SHIFT) | PRESENT
    links(m)[entry_id * 2] = p.up
    links(m)[entry_id * 2 + 1] = -1
    if p.up >= 0:
        links(m)[p.up * 2 + 1] = entry_id
    p.up = entry_id


@kernel
def unlink_child(m: Core, entry_id: int) -> None:
    """Take that back; the child lives on (drop_parent_pte)."""
    child = page_at(m, entries(m)[entry_id] >> FRAME_SHIFT)
    after = links(m)[entry_id * 2]
    before = links(m)[entry_id * 2 + 1]
    if before >= 0:
        links(m)[before * 2] = after
    else:
        child.up = after
    if after >= 0:
        links(m)[after * 2 + 1] = before
    entries(m)[entry_id] = 0


@kernel
def _join_list(m: Core, page: int) -> None:
    p = page_at(m, page)
    p.newer, p.older = -1, m.kvm.newest
    if m.kvm.newest >= 0:
        page_at(m, m.kvm.newest).newer = page
    else:
        m.kvm.oldest = page
    m.kvm.newest = page


@kernel
def _leave_list(m: Core, page: int) -> None:
    p = page_at(m, page)
    if p.newer >= 0:
        page_at(m, p.newer).older = p.older
    else:
        m.kvm.newest = p.older
    if p.older >= 0:
        page_at(m, p.older).newer = p.newer
    else:
        m.kvm.oldest = p.newer


@kernel
def set_unsync(m: Core, page: int) -> None:
    """The guest may write this table freely from here on (kvm_unsync_page)."""
    stack(m)[m.kvm.unsync] = page
    m.kvm.unsync += 1
    page_at(m, page).unsync = m.kvm.unsync


@kernel
def set_in_sync(m: Core, page: int) -> None:
    """It is no longer out of sync (kvm_unlink_unsync_page)."""
    p = page_at(m, page)
    if p.unsync == 0:
        return
    m.kvm.unsync -= 1
    last = stack(m)[m.kvm.unsync]
    stack(m)[p.unsync - 1] = last
    page_at(m, last).unsync = p.unsync
    p.unsync = 0


@kernel
def _unhash(m: Core, page: int) -> None:
    p = page_at(m, page)
    bucket = bucket_of(m, p.gfn)
    at = buckets(m)[bucket]
    if at == page:
        buckets(m)[bucket] = p.hash_next
        return
    while page_at(m, at).hash_next != page:
        at = page_at(m, at).hash_next
    page_at(m, at).hash_next = p.hash_next


@kernel
def _forget_kind(m: Core, gfn: int, kind: int) -> None:
    """A shadow page of this frame is gone: was it the last of its level?"""
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        if page_at(m, page).gfn == gfn and page_at(m, page).kind == kind:
            return
        page = page_at(m, page).hash_next
    frame_at(m, gfn).types &= ~(1 << kind)


@kernel
def _drop_content(m: Core, page: int) -> int:
    """kvm_mmu_page_unlink_children; returns how many entries were present."""
    leaf = page_at(m, page).kind <= FL1
    present = 0
    for slot in range(ENTRIES):
        if entries(m)[page * ENTRIES + slot] & PRESENT == 0:
            continue
        present += 1
        if leaf:
            clear_l1_entry(m, page, slot)
        else:
            unlink_child(m, page * ENTRIES + slot)
    return present


@kernel
def zap_mappings(m: Core, gfn: int, cause: int) -> int:
    """Every entry that maps a frame goes (kvm_zap_rmap); returns how many there were."""
    zapped = 0
    entry_id = int(frame_at(m, gfn).rmap)
    while entry_id >= 0:
        clear_l1_entry(m, entry_id >> 9, entry_id & SLOT_MASK)
        zapped += 1
        entry_id = int(frame_at(m, gfn).rmap)
    pay(m, _DROP_ENTRY, cause, zapped)
    return zapped


@kernel
def _free(m: Core, page: int) -> None:
    p = page_at(m, page)
    p.kind = FREE
    p.hash_next = m.shadow.free_page
    m.shadow.free_page = page
    m.shadow.free_pages += 1
    m.shadow.pages_dropped += 1


@kernel
def zap_one(m: Core, page: int, cause: int) -> None:
    """kvm_mmu_prepare_zap_page: nothing leads to it or from it, and nobody finds it any more.

    A root that a vCPU holds is freed only when it lets go (`release_root`), and counts once more.
    """
    p = page_at(m, page)
    if m.flow.rows > 0:
        note(m, SHADOW_DROPPED, p.gfn, p.gfn, p.kind)
    m.kvm.zapped += 1
    pay(m, _DROP_ENTRY, cause, _drop_content(m, page))
    pay(m, _DROP_PAGE, cause, 1)
    while p.up >= 0:
        unlink_child(m, p.up)
    if cause == BASE:
        forget_page(m, page)
    set_in_sync(m, page)
    _unhash(m, page)
    _leave_list(m, page)
    if p.kind != FL1:
        _forget_kind(m, p.gfn, p.kind)
    if p.refs > 0:
        p.invalid = 1
    else:
        _free(m, page)


@kernel
def _mark_children(m: Core, page: int) -> None:
    for slot in range(ENTRIES):
        entry = entries(m)[page * ENTRIES + slot]
        if entry & PRESENT:
            page_at(m, entry >> FRAME_SHIFT).mark = m.kvm.epoch


@kernel
def mark_below(m: Core, top: int) -> None:
    """Let `mark` of every page below one, and its own, be the current epoch."""
    m.kvm.epoch += 1
    page_at(m, top).mark = m.kvm.epoch
    for kind in range(page_at(m, top).kind, L1 + 1, -1):
        page = m.kvm.oldest
        while page >= 0:
            p = page_at(m, page)
            if p.kind == kind and p.mark == m.kvm.epoch:
                _mark_children(m, page)
            page = p.newer


@kernel
def zap_page(m: Core, page: int, cause: int) -> None:
    """Zap a page, and every table below it that is out of sync (mmu_zap_unsync_children)."""
    if m.kvm.unsync > 0 and page_at(m, page).kind >= L2:
        mark_below(m, page)
        for i in range(m.kvm.unsync - 1, -1, -1):
            below = stack(m)[i]
            if page_at(m, below).mark == m.kvm.epoch:
                zap_one(m, below, cause)
    zap_one(m, page, cause)


@kernel
def make_room(m: Core) -> None:
    """make_mmu_pages_available: recycle the oldest pages, whoever uses them, but no root in use."""
    if m.shadow.free_pages >= MIN_FREE_PAGES:
        return
    page = m.kvm.oldest
    while page >= 0 and m.shadow.free_pages < REFILL_PAGES:
        if page_at(m, page).refs > 0:
            page = page_at(m, page).newer
            continue
        before = m.kvm.zapped
        zap_page(m, page, BASE)
        m.kvm.recycled += m.kvm.zapped - before
        page = m.kvm.oldest
    flush_tlb(m, BASE)


@kernel
def _pay_build(m: Core, gfn: int, kind: int) -> int:
    """Charge for a new shadow page; returns the cause of what else it brings."""
    frame = frame_at(m, gfn)
    bit = 1 << kind
    rebuilt = m.log.enabled == 1 and frame.seen & bit != 0
    frame.seen |= bit
    pay(m, _BUILD, _REBUILD if rebuilt else BASE, 1)
    return _TLB if rebuilt else BASE


@kernel
def _take_page(m: Core, gfn: int, kind: int, access: int, key: int) -> int:
    page = m.shadow.free_page
    p = page_at(m, page)
    m.shadow.free_page = p.hash_next
    m.shadow.free_pages -= 1
    m.shadow.pages_built += 1
    m.kvm.cache_miss += 1
    if m.flow.rows > 0:
        note(m, SHADOW_BUILT, gfn, gfn, kind)
    bucket = bucket_of(m, gfn)
    p.gfn, p.key, p.kind, p.access, p.up = gfn, key, kind, access, -1
    p.refs, p.unsync, p.floods, p.invalid = 0, 0, 0, 0
    p.hash_next = buckets(m)[bucket]
    buckets(m)[bucket] = page
    _join_list(m, page)
    for slot in range(ENTRIES):
        entries(m)[page * ENTRIES + slot] = 0
    return page


@kernel
def _zap_unsync_tables(m: Core, gfn: int) -> None:
    """A frame becomes an upper table: as an L1 table it is hardly in use any more."""
    page = buckets(m)[bucket_of(m, gfn)]
    while page >= 0:
        after = page_at(m, page).hash_next
        if page_at(m, page).gfn == gfn and page_at(m, page).unsync > 0:
            zap_one(m, page, BASE)
        page = after


@kernel
def new_page(m: Core, gfn: int, kind: int, access: int, key: int) -> int:
    """A shadow page that was not in the hash (`make_room` came before).

    A table that it shadows loses its writable entries (account_shadowed).
    """
    if kind >= L2:
        _zap_unsync_tables(m, gfn)
    cause = _pay_build(m, gfn, kind)
    if kind != FL1:
        frame_at(m, gfn).types |= 1 << kind
        if revoke_table_writes(m, gfn) > 0:
            flush_tlb(m, cause)
    return _take_page(m, gfn, kind, access, key)


@kernel
def hold_root(m: Core, page: int) -> None:
    """A vCPU has it as current or previous root."""
    page_at(m, page).refs += 1


@kernel
def release_root(m: Core, page: int) -> None:
    """A vCPU lets go of it (mmu_free_root_page): it stays in the hash, unless it was zapped."""
    p = page_at(m, page)
    p.refs -= 1
    if p.refs == 0 and p.invalid == 1:
        m.kvm.zapped += 1
        _free(m, page)
