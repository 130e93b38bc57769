"""The pool of shadow pages: found by hash, counted by references, evicted when it is full.

A shadow page lives while it is referenced by a parent entry or pinned (roots are); when the
count reaches 0 it dies at once, and its children with it, from the top down.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.shadow_entries import clear_l1_entry, revoke_writes
from paging_core.kernels.state import (
    BASELINE_WORDS,
    FL1,
    FREE,
    L1,
    L4,
    PRESENT,
    Machine,
)
from paging_core.kernels.tlb import flush_tlb

_BUILD = int(Event.SHADOW_PAGE_BUILD)
_DROP_PAGE = int(Event.SHADOW_TEARDOWN_PAGE)
_DROP_ENTRY = int(Event.SHADOW_TEARDOWN_ENTRY)
_REBUILD = int(Cause.REBUILD)
_TLB = int(Cause.TLB)
_PAGES_PER_WALK = 4


@kernel
def _bucket(m: Machine, gfn: int, kind: int) -> int:
    return ((gfn * 8 + kind) * 2654435761 >> 8) % m.buckets.shape[0]


@kernel
def find_page(m: Machine, gfn: int, kind: int) -> int:
    """The shadow page of (guest frame, kind), or -1."""
    page = m.buckets[_bucket(m, gfn, kind)]
    while page >= 0 and (m.pages[page].gfn != gfn or m.pages[page].kind != kind):
        page = m.pages[page].hash_next
    return page


@kernel
def _unhash(m: Machine, page: int) -> None:
    bucket = _bucket(m, m.pages[page].gfn, m.pages[page].kind)
    after = m.pages[page].hash_next
    at = m.buckets[bucket]
    if at == page:
        m.buckets[bucket] = after
        return
    while m.pages[at].hash_next != page:
        at = m.pages[at].hash_next
    m.pages[at].hash_next = after


@kernel
def baseline_row(m: Machine, gfn: int, kind: int, create: bool) -> int:
    """Row of `baseline` for an L1 or FL1 shadow, or -1 (unknown, or no row left)."""
    known = m.frames[gfn].baseline if kind == L1 else m.regions[gfn >> 9]
    if known >= 0 or not create or m.host[0].free_baseline < 0:
        return known
    row = m.host[0].free_baseline
    m.host[0].free_baseline = m.baseline[row, 0]
    for i in range(BASELINE_WORDS):
        m.baseline[row, i] = 0
    if kind == L1:
        m.frames[gfn].baseline = row
    else:
        m.regions[gfn >> 9] = row
    return row


@kernel
def _forget_baseline(m: Machine, gfn: int, kind: int) -> None:
    # Without tracking this shadow would be gone too, so building it again is nobody's fault.
    m.frames[gfn].seen &= ~(1 << kind)
    if kind > FL1:
        return
    row = baseline_row(m, gfn, kind, False)
    if row < 0:
        return
    m.baseline[row, 0] = m.host[0].free_baseline
    m.host[0].free_baseline = row
    if kind == L1:
        m.frames[gfn].baseline = -1
    else:
        m.regions[gfn >> 9] = -1


@kernel
def pin(m: Machine, page: int) -> None:
    """Keep a root alive: it goes to the head of the list of pinned shadows."""
    host = m.host[0]
    p = m.pages[page]
    if p.pinned:
        _leave_pin_list(m, page)
    else:
        p.refs += 1
        p.pinned = 1
    p.pin_prev = -1
    p.pin_next = host.pin_head
    if host.pin_head >= 0:
        m.pages[host.pin_head].pin_prev = page
    else:
        host.pin_tail = page
    host.pin_head = page


@kernel
def _leave_pin_list(m: Machine, page: int) -> None:
    host = m.host[0]
    p = m.pages[page]
    if p.pin_prev >= 0:
        m.pages[p.pin_prev].pin_next = p.pin_next
    else:
        host.pin_head = p.pin_next
    if p.pin_next >= 0:
        m.pages[p.pin_next].pin_prev = p.pin_prev
    else:
        host.pin_tail = p.pin_prev


@kernel
def _free(m: Machine, page: int) -> None:
    p = m.pages[page]
    _unhash(m, page)
    if p.kind != FL1:
        m.frames[p.gfn].types &= ~(1 << p.kind)
    p.kind = FREE
    p.hash_next = m.host[0].free_page
    m.host[0].free_page = page
    m.host[0].free_pages += 1
    m.host[0].shadow_pages_dropped += 1


@kernel
def _drop_content(m: Machine, page: int, pushed: int, cause: int) -> int:
    """Remove all entries of a page; orphaned children go on the stack (returns its height)."""
    leaf = m.pages[page].kind <= FL1
    present = 0
    for slot in range(512):
        entry = m.entries[page, slot]
        if entry & PRESENT == 0:
            continue
        present += 1
        if leaf:
            clear_l1_entry(m, page, slot)
            continue
        child = entry >> 12
        m.entries[page, slot] = 0
        if m.pages[child].up == page * 512 + slot:
            m.pages[child].up = -1
        m.pages[child].refs -= 1
        if m.pages[child].refs == 0:
            m.stack[pushed] = child
            pushed += 1
    pay(m, _DROP_ENTRY, cause, present)
    return pushed


@kernel
def _destroy_stacked(m: Machine, pushed: int, cause: int) -> None:
    while pushed > 0:
        pushed -= 1
        page = m.stack[pushed]
        pushed = _drop_content(m, page, pushed, cause)
        if cause == BASE:
            _forget_baseline(m, m.pages[page].gfn, m.pages[page].kind)
        pay(m, _DROP_PAGE, cause, 1)
        _free(m, page)


@kernel
def empty_page(m: Machine, page: int, cause: int) -> None:
    """Drop everything below a shadow page; the page itself survives, empty."""
    _destroy_stacked(m, _drop_content(m, page, 0, cause), cause)


@kernel
def put_page(m: Machine, page: int, cause: int) -> None:
    """Give up one reference; the last one destroys the shadow and what it alone held."""
    m.pages[page].refs -= 1
    if m.pages[page].refs == 0:
        m.stack[0] = page
        _destroy_stacked(m, 1, cause)


@kernel
def unpin(m: Machine, page: int, cause: int) -> None:
    """Take a root from the pinned list and give up the reference that the pin held."""
    _leave_pin_list(m, page)
    m.pages[page].pinned = 0
    put_page(m, page, cause)


@kernel
def clear_upper_entry(m: Machine, page: int, slot: int, cause: int) -> None:
    """Remove an entry that points to a child shadow."""
    entry = m.entries[page, slot]
    if entry & PRESENT == 0:
        return
    child = entry >> 12
    m.entries[page, slot] = 0
    if m.pages[child].up == page * 512 + slot:
        m.pages[child].up = -1
    put_page(m, child, cause)


@kernel
def make_room(m: Machine) -> None:
    """See to it that one whole walk can be built, as shadow_prealloc does.

    First the pinned roots not in use go, least recently pinned first; then, if that is not
    enough, everything below the root in use.
    """
    host = m.host[0]
    page = host.pin_tail
    while host.free_pages < _PAGES_PER_WALK and page >= 0:
        before = m.pages[page].pin_prev
        if page != host.root:
            unpin(m, page, BASE)
            flush_tlb(m, BASE)
        page = before
    if host.free_pages < _PAGES_PER_WALK:
        empty_page(m, host.root, BASE)
        flush_tlb(m, BASE)


@kernel
def _take_page(m: Machine, gfn: int, kind: int) -> int:
    host = m.host[0]
    page = host.free_page
    p = m.pages[page]
    host.free_page = p.hash_next
    host.free_pages -= 1
    host.shadow_pages_built += 1
    bucket = _bucket(m, gfn, kind)
    p.gfn, p.kind, p.refs, p.pinned, p.up = gfn, kind, 0, 0, -1
    p.hash_next = m.buckets[bucket]
    m.buckets[bucket] = page
    for slot in range(512):
        m.entries[page, slot] = 0
    return page


@kernel
def _protect_table(m: Machine, gfn: int, cause: int) -> None:
    # A page becomes a table for the hypervisor only once nobody can write it unseen.
    if revoke_writes(m, gfn) > 0:
        flush_tlb(m, cause)


@kernel
def get_page(m: Machine, gfn: int, kind: int) -> int:
    """The shadow of (guest frame, kind), built if there is none (`make_room` came before)."""
    page = find_page(m, gfn, kind)
    if page >= 0:
        return page
    frame = m.frames[gfn]
    bit = 1 << kind
    rebuilt = m.host[0].log_dirty == 1 and frame.seen & bit != 0
    pay(m, _BUILD, _REBUILD if rebuilt else BASE, 1)
    frame.seen |= bit
    if kind != FL1:
        _protect_table(m, gfn, _TLB if rebuilt else BASE)
        frame.types |= bit
    return _take_page(m, gfn, kind)


@kernel
def hook_page(m: Machine, parent: int, slot: int, child: int) -> None:
    """Let a parent entry point to a child shadow, and count it."""
    entry_id = parent * 512 + slot
    m.entries[parent, slot] = (child << 12) | PRESENT
    m.pages[child].refs += 1
    if m.pages[child].up < 0:
        m.pages[child].up = entry_id


@kernel
def _unhook_everywhere(m: Machine, page: int) -> None:
    # More than one parent (the kernel's tables): Xen searches by brute force as well.
    wanted = (page << 12) | PRESENT
    for parent in range(m.pages.shape[0]):
        if m.pages[parent].kind != m.pages[page].kind + 1 and not (
            m.pages[page].kind == L1 and m.pages[parent].kind == FL1 + 1
        ):
            continue
        for slot in range(512):
            if m.entries[parent, slot] == wanted:
                clear_upper_entry(m, parent, slot, BASE)
                if m.pages[page].kind == FREE:
                    return


@kernel
def remove_shadow(m: Machine, page: int) -> None:
    """Destroy one shadow wherever it hangs: the guest frame stops being a table."""
    p = m.pages[page]
    if page == m.host[0].root:
        empty_page(m, page, BASE)
        return
    if p.pinned:
        unpin(m, page, BASE)
        return
    up = p.up
    if up >= 0 and p.refs == 1:
        clear_upper_entry(m, up >> 9, up & 511, BASE)
    else:
        _unhook_everywhere(m, page)


@kernel
def unshadow(m: Machine, gfn: int) -> None:
    """Remove every shadow of a guest frame that is no page table any more."""
    for kind in range(L1, L4 + 1):
        if kind != FL1 and m.frames[gfn].types & (1 << kind):
            remove_shadow(m, find_page(m, gfn, kind))
    flush_tlb(m, BASE)
