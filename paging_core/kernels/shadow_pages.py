"""The pool of shadow pages: found by hash, counted by references, evicted when it is full.

An FL1 is keyed by the guest L2 entry (table × 512 + slot) whose superpage it splinters. Xen
keys it by the superpage's first gfn, so that two mappings with different flags share one;
here the kernel's direct map and a user mapping of the same frames stay apart.

A shadow page lives while it is referenced by a parent entry, pinned (roots are) or in CR3; when
the count reaches 0 it dies at once, and its children with it, from the top down.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import buckets, entries, frame_at, page_at, stack
from paging_core.kernels.baseline import forget_page, revoke_table_writes
from paging_core.kernels.flow import SHADOW_BUILT, SHADOW_DROPPED, note
from paging_core.kernels.shadow_entries import clear_l1_entry, revoke_writes
from paging_core.kernels.state import (
    ENTRIES,
    FL1,
    FREE,
    L1,
    L4,
    N_OOS,
    PRESENT,
    SLOT_MASK,
    Core,
)
from paging_core.kernels.tlb import flush_tlb
from paging_core.units import FRAME_SHIFT

_BUILD = int(Event.SHADOW_PAGE_BUILD)
_DROP_PAGE = int(Event.SHADOW_TEARDOWN_PAGE)
_DROP_ENTRY = int(Event.SHADOW_TEARDOWN_ENTRY)
_REBUILD = int(Cause.REBUILD)
_TLB = int(Cause.TLB)
_PAGES_PER_WALK = 4


@kernel
def _bucket(m: Core, key: int, kind: int) -> int:
    return ((key * 8 + kind) * 2654435761 >> 8) % m.shadow.n_buckets


@kernel
def find_page(m: Core, key: int, kind: int) -> int:
    """The shadow page of (guest table, or L2 entry of a superpage; kind), or -1."""
    page = buckets(m)[_bucket(m, key, kind)]
    while page >= 0 and (page_at(m, page).key != key or page_at(m, page).kind != kind):
        page = page_at(m, page).hash_next
    return page


@kernel
def _unhash(m: Core, page: int) -> None:
    bucket = _bucket(m, page_at(m, page).key, page_at(m, page).kind)
    after = page_at(m, page).hash_next
    at = buckets(m)[bucket]
    if at == page:
        buckets(m)[bucket] = after
        return
    while page_at(m, at).hash_next != page:
        at = page_at(m, at).hash_next
    page_at(m, at).hash_next = after


@kernel
def pin(m: Core, page: int) -> None:
    """Keep a root alive: it goes to the head of the list of pinned shadows."""
    p = page_at(m, page)
    if p.pinned:
        _leave_pin_list(m, page)
    else:
        p.refs += 1
        p.pinned = 1
    p.pin_prev = -1
    p.pin_next = m.shadow.pin_head
    if m.shadow.pin_head >= 0:
        page_at(m, m.shadow.pin_head).pin_prev = page
    else:
        m.shadow.pin_tail = page
    m.shadow.pin_head = page


@kernel
def _leave_pin_list(m: Core, page: int) -> None:
    p = page_at(m, page)
    if p.pin_prev >= 0:
        page_at(m, p.pin_prev).pin_next = p.pin_next
    else:
        m.shadow.pin_head = p.pin_next
    if p.pin_next >= 0:
        page_at(m, p.pin_next).pin_prev = p.pin_prev
    else:
        m.shadow.pin_tail = p.pin_prev


@kernel
def _leave_out_of_sync(m: Core, gfn: int) -> None:
    """A table without a shadow is not out of sync (shadow_demote)."""
    for i in range(N_OOS):
        if m.shadow.oos_gfn[i] == gfn:
            m.shadow.oos_gfn[i] = -1


@kernel
def _free(m: Core, page: int) -> None:
    p = page_at(m, page)
    if m.flow.rows > 0:
        note(m, SHADOW_DROPPED, p.gfn, p.gfn, p.kind)
    _unhash(m, page)
    if p.kind != FL1:
        frame_at(m, p.gfn).types &= ~(1 << p.kind)
    if p.kind == L1:
        _leave_out_of_sync(m, p.gfn)
    p.kind = FREE
    p.hash_next = m.shadow.free_page
    m.shadow.free_page = page
    m.shadow.free_pages += 1
    m.shadow.pages_dropped += 1


@kernel
def _drop_content(m: Core, page: int, pushed: int, cause: int) -> int:
    """Remove all entries of a page; orphaned children go on the stack (returns its height)."""
    leaf = page_at(m, page).kind <= FL1
    present = 0
    for slot in range(ENTRIES):
        entry = entries(m)[page * ENTRIES + slot]
        if entry & PRESENT == 0:
            continue
        present += 1
        if leaf:
            clear_l1_entry(m, page, slot)
            continue
        child = entry >> FRAME_SHIFT
        entries(m)[page * ENTRIES + slot] = 0
        if page_at(m, child).up == page * ENTRIES + slot:
            page_at(m, child).up = -1
        page_at(m, child).refs -= 1
        if page_at(m, child).refs == 0:
            stack(m)[pushed] = child
            pushed += 1
    pay(m, _DROP_ENTRY, cause, present)
    return pushed


@kernel
def _destroy_stacked(m: Core, pushed: int, cause: int) -> None:
    while pushed > 0:
        pushed -= 1
        page = stack(m)[pushed]
        pushed = _drop_content(m, page, pushed, cause)
        if cause == BASE:
            forget_page(m, page)
        pay(m, _DROP_PAGE, cause, 1)
        _free(m, page)


@kernel
def empty_page(m: Core, page: int, cause: int) -> None:
    """Drop everything below a shadow page; the page itself survives, empty."""
    _destroy_stacked(m, _drop_content(m, page, 0, cause), cause)


@kernel
def put_page(m: Core, page: int, cause: int) -> None:
    """Give up one reference; the last one destroys the shadow and what it alone held."""
    page_at(m, page).refs -= 1
    if page_at(m, page).refs == 0:
        stack(m)[0] = page
        _destroy_stacked(m, 1, cause)


@kernel
def unpin(m: Core, page: int, cause: int) -> None:
    """Take a root from the pinned list and give up the reference that the pin held."""
    _leave_pin_list(m, page)
    page_at(m, page).pinned = 0
    put_page(m, page, cause)


@kernel
def clear_upper_entry(m: Core, page: int, slot: int, cause: int) -> None:
    """Remove an entry that points to a child shadow."""
    entry = entries(m)[page * ENTRIES + slot]
    if entry & PRESENT == 0:
        return
    child = entry >> FRAME_SHIFT
    entries(m)[page * ENTRIES + slot] = 0
    if page_at(m, child).up == page * ENTRIES + slot:
        page_at(m, child).up = -1
    put_page(m, child, cause)


@kernel
def make_room(m: Core) -> None:
    """See to it that one whole walk can be built, as shadow_prealloc does.

    First roots are unpinned, least recently pinned first, and go unless in use; then, if that is
    not enough, everything below the root in use does.
    """
    page = m.shadow.pin_tail
    while m.shadow.free_pages < _PAGES_PER_WALK and page >= 0:
        before = page_at(m, page).pin_prev
        unpin(m, page, BASE)
        flush_tlb(m, BASE)
        page = before
    if m.shadow.free_pages < _PAGES_PER_WALK:
        empty_page(m, m.shadow.root, BASE)
        flush_tlb(m, BASE)


@kernel
def _take_page(m: Core, gfn: int, key: int, kind: int) -> int:
    page = m.shadow.free_page
    p = page_at(m, page)
    m.shadow.free_page = p.hash_next
    m.shadow.free_pages -= 1
    m.shadow.pages_built += 1
    if m.flow.rows > 0:
        note(m, SHADOW_BUILT, gfn, gfn, kind)
    bucket = _bucket(m, key, kind)
    p.gfn, p.key, p.kind, p.refs, p.pinned, p.up = gfn, key, kind, 0, 0, -1
    p.hash_next = buckets(m)[bucket]
    buckets(m)[bucket] = page
    for slot in range(ENTRIES):
        entries(m)[page * ENTRIES + slot] = 0
    return page


@kernel
def _protect_table(m: Core, gfn: int, cause: int) -> None:
    # A page becomes a table for the hypervisor only once nobody can write it unseen. In the twin
    # one that is built again is a table already, and may be out of sync.
    revoked = revoke_table_writes(m, gfn) if cause == BASE else revoke_writes(m, gfn)
    if revoked > 0:
        flush_tlb(m, cause)


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
def get_page(m: Core, gfn: int, kind: int) -> int:
    """The shadow of a guest table, built if there is none (`make_room` came before)."""
    page = find_page(m, gfn, kind)
    if page >= 0:
        return page
    _protect_table(m, gfn, _pay_build(m, gfn, kind))
    frame_at(m, gfn).types |= 1 << kind
    return _take_page(m, gfn, gfn, kind)


@kernel
def get_superpage(m: Core, gfn: int, entry_key: int) -> int:
    """The FL1 shadow of a guest superpage.

    Args:
        gfn: its first frame.
        entry_key: its guest L2 entry, table × 512 + slot.
    """
    page = find_page(m, entry_key, FL1)
    if page >= 0:
        return page
    _pay_build(m, gfn, FL1)
    return _take_page(m, gfn, entry_key, FL1)


@kernel
def hook_page(m: Core, parent: int, slot: int, child: int) -> None:
    """Let a parent entry point to a child shadow, and count it."""
    entry_id = parent * ENTRIES + slot
    entries(m)[parent * ENTRIES + slot] = (child << FRAME_SHIFT) | PRESENT
    page_at(m, child).refs += 1
    if page_at(m, child).up < 0:
        page_at(m, child).up = entry_id


@kernel
def _unhook_everywhere(m: Core, page: int) -> None:
    # More than one parent (the kernel's tables): Xen searches by brute force as well.
    wanted = (page << FRAME_SHIFT) | PRESENT
    for parent in range(m.shadow.pool_pages):
        if page_at(m, parent).kind != page_at(m, page).kind + 1 and not (
            page_at(m, page).kind == L1 and page_at(m, parent).kind == FL1 + 1
        ):
            continue
        for slot in range(ENTRIES):
            if entries(m)[parent * ENTRIES + slot] == wanted:
                clear_upper_entry(m, parent, slot, BASE)
                if page_at(m, page).kind == FREE:
                    return


@kernel
def remove_shadow(m: Core, page: int) -> None:
    """Destroy one shadow wherever it hangs: the guest frame stops being a table."""
    p = page_at(m, page)
    if p.kind == L4:
        if p.pinned:
            unpin(m, page, BASE)
        if page == m.shadow.root:
            empty_page(m, page, BASE)
        return
    up = p.up
    if up >= 0 and p.refs == 1:
        clear_upper_entry(m, up >> 9, up & SLOT_MASK, BASE)
    else:
        _unhook_everywhere(m, page)


@kernel
def unshadow(m: Core, gfn: int) -> None:
    """Remove every shadow of a guest frame that is no page table any more."""
    for kind in range(L1, L4 + 1):
        if kind != FL1 and frame_at(m, gfn).types & (1 << kind):
            remove_shadow(m, find_page(m, gfn, kind))
    flush_tlb(m, BASE)
