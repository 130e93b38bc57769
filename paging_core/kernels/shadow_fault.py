"""The shadow page fault: walk the guest's tables, build what is missing, fix up, mark.

Follows Xen's sh_page_fault and _sh_propagate: A and D bits set in the guest's own entries,
levels built lazily, write access at level 1 only where log-dirty, the guest and the rule
that tables are never writable all allow it.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event, Fault
from paging_core.kernels.accessed_dirty import set_accessed_dirty
from paging_core.kernels.account import BASE, count_fault, pay
from paging_core.kernels.arrays import baseline, entries, frame_at, page_at
from paging_core.kernels.baseline import (
    baseline_row,
    emulates_untracked,
    forget_table,
    new_baseline_row,
    twin_unsyncs,
)
from paging_core.kernels.bitmap import BY_LOG, is_dirty, mark_dirty
from paging_core.kernels.density import guest_leaf
from paging_core.kernels.guest_walk import Walk, frame_of, guest_walk, slot_of
from paging_core.kernels.out_of_sync import (
    any_out_of_sync,
    go_out_of_sync,
    note_built,
    resync_all,
)
from paging_core.kernels.shadow_entries import set_l1_entry
from paging_core.kernels.shadow_pages import (
    get_page,
    get_superpage,
    hook_page,
    make_room,
    unshadow,
)
from paging_core.kernels.state import (
    ACCESSED,
    BASELINE_WORDS,
    DIRTY,
    ENTRIES,
    GUEST_WRITES,
    KERNEL_BASE,
    L1,
    L2,
    L3,
    PRESENT,
    SLOT_MASK,
    USER,
    WRITABLE,
    Core,
)
from paging_core.kernels.tlb import fill_tlb
from paging_core.kernels.translation import BLOCK_WRITE, EMULATE, GUEST_FAULT
from paging_core.kernels.virtual_groups import log_fixup
from paging_core.units import FRAME_SHIFT

PREFETCH_DISTANCE = 32
"""Xen: the faulting entry and up to 31 after it, within one shadow L1."""

_EXIT = int(Event.EXIT)
_FIXUP_EVENT = int(Event.FIXUP)
_BUILD_ENTRY = int(Event.SHADOW_L1E_BUILD)
_PREFETCH = int(Event.SHADOW_PREFETCH)
_EMULATED = int(Event.EMULATED_WRITE)
_FIXUP = int(Cause.FIXUP)
_REBUILD = int(Cause.REBUILD)
_F_READ_BUILD = int(Fault.READ_BUILD)
_F_WRITE_BUILD = int(Fault.WRITE_BUILD)
_F_WRITE_PROTECT = int(Fault.WRITE_PROTECT)
_F_EMULATED = int(Fault.EMULATED_WRITE)


@kernel
def _child(m: Core, parent: int, slot: int, table: int, kind: int) -> int:
    entry = entries(m)[parent * ENTRIES + slot]
    if entry & PRESENT:
        return entry >> FRAME_SHIFT
    page = get_page(m, table, kind)
    hook_page(m, parent, slot, page)
    return page


@kernel
def _get_l2(m: Core, va: int, walk: Walk) -> int:
    l3 = _child(m, m.shadow.root, slot_of(va, 4), walk[2], L3)
    return _child(m, l3, slot_of(va, 3), walk[3], L2)


@kernel
def _lacks_l2(m: Core, va: int) -> bool:
    entry = entries(m)[m.shadow.root * ENTRIES + slot_of(va, 4)]
    if entry & PRESENT == 0:
        return True
    return entries(m)[(entry >> FRAME_SHIFT) * ENTRIES + slot_of(va, 3)] & PRESENT == 0


@kernel
def _get_l1(m: Core, va: int, walk: Walk, l2: int) -> int:
    slot = slot_of(va, 2)
    if walk[4] >= 0:
        return _child(m, l2, slot, walk[4], L1)
    entry = entries(m)[l2 * ENTRIES + slot]
    if entry & PRESENT:
        return entry >> FRAME_SHIFT
    page = get_superpage(m, walk[0] & ~SLOT_MASK, walk[3] * ENTRIES + slot)
    hook_page(m, l2, slot, page)
    return page


@kernel
def _may_keep_write(m: Core, gfn: int, leaf: int) -> bool:
    """The RW rule for an entry installed without a write (demand read, prefetch)."""
    if leaf & (WRITABLE | DIRTY) != WRITABLE | DIRTY or frame_at(m, gfn).types != 0:
        return False
    return m.log.enabled == 0 or is_dirty(m, gfn)


@kernel
def _read_opens(m: Core, gfn: int, leaf: int) -> bool:
    """Whether a read maps its frame writable and marks it, as KVM does (make_spte)."""
    if m.shadow.reads_map_writable == 0 or m.log.enabled == 0:
        return False
    return leaf & (WRITABLE | DIRTY) == WRITABLE | DIRTY and frame_at(m, gfn).types == 0


@kernel
def _flags_for(m: Core, gfn: int, leaf: int) -> int:
    flags = PRESENT | ACCESSED | (leaf & USER)
    if leaf & (WRITABLE | DIRTY) == WRITABLE | DIRTY:
        flags |= GUEST_WRITES
    if _may_keep_write(m, gfn, leaf):
        flags |= WRITABLE
    return flags


@kernel
def _note_built(m: Core, page: int, slot: int) -> None:
    p = page_at(m, page)
    if p.kind == L1:
        note_built(m, p.gfn, slot)


@kernel
def _prefetch(m: Core, page: int, slot: int, cause: int) -> None:
    for i in range(slot + 1, min(slot + PREFETCH_DISTANCE, ENTRIES)):
        if entries(m)[page * ENTRIES + i] != 0:
            return
        leaf = guest_leaf(m, page, i)
        if leaf & PRESENT == 0:
            continue
        if leaf & ACCESSED == 0 or leaf & (WRITABLE | DIRTY) == WRITABLE:
            return
        gfn = frame_of(leaf)
        set_l1_entry(m, page, i, gfn, _flags_for(m, gfn, leaf))
        _note_built(m, page, i)
        pay(m, _PREFETCH, cause, 1)


@kernel
def _baseline_has(m: Core, row: int, slot: int, write: int) -> bool:
    if row < 0:
        return False
    column = (slot >> 6) + (8 if write else 0)
    return (baseline(m)[row * BASELINE_WORDS + column] >> (slot & 63)) & 1 == 1


@kernel
def _baseline_set(m: Core, row: int, slot: int, leaf: int) -> None:
    bit = 1 << (slot & 63)
    baseline(m)[row * BASELINE_WORDS + (slot >> 6)] |= bit
    writable = leaf & (WRITABLE | DIRTY) == WRITABLE | DIRTY
    if writable and not emulates_untracked(m, frame_of(leaf)):
        baseline(m)[row * BASELINE_WORDS + (8 + (slot >> 6))] |= bit


@kernel
def _baseline_fault(m: Core, page: int, slot: int, leaf: int) -> None:
    """Do to the untracked twin of this shadow L1 what its own fault would have done."""
    row = new_baseline_row(m, page)
    if row < 0:
        return
    _baseline_set(m, row, slot, leaf)
    if m.shadow.prefetch == 0:
        return
    for i in range(slot + 1, min(slot + PREFETCH_DISTANCE, ENTRIES)):
        neighbour = guest_leaf(m, page, i)
        if neighbour & PRESENT == 0:
            continue
        if _baseline_has(m, row, i, 0) or neighbour & ACCESSED == 0:
            return
        if neighbour & (WRITABLE | DIRTY) == WRITABLE:
            return
        _baseline_set(m, row, i, neighbour)


@kernel
def _classify(m: Core, page: int, slot: int, gfn: int, write: int) -> int:
    """BASE, or the tracking cause to which this fault is charged."""
    if m.log.enabled == 0 or (write != 0 and emulates_untracked(m, gfn)):
        return BASE
    row = baseline_row(m, page)
    if not _baseline_has(m, row, slot, write):
        return BASE
    return _FIXUP if entries(m)[page * ENTRIES + slot] & PRESENT else _REBUILD


@kernel
def _pay_fault(m: Core, page: int, slot: int, gfn: int, write: int, cause: int) -> None:
    present = entries(m)[page * ENTRIES + slot] & PRESENT
    pay(m, _EXIT, cause, 1)
    pay(m, _FIXUP_EVENT if present else _BUILD_ENTRY, cause, 1)
    if present:
        count_fault(m, _F_WRITE_PROTECT, gfn)
    else:
        count_fault(m, _F_WRITE_BUILD if write else _F_READ_BUILD, gfn)
    m.log.fault_count += 1


@kernel
def _grant_write(m: Core, page: int, slot: int, gfn: int, flags: int, parent_id: int) -> None:
    """The fixup: mark the frame, make its entry writable, open its group."""
    set_l1_entry(m, page, slot, gfn, flags | WRITABLE | GUEST_WRITES | DIRTY)
    log_fixup(m, page, slot, parent_id, gfn)


@kernel
def _emulate(m: Core, page: int, slot: int, gfn: int, leaf: int) -> int:
    """A store to a shadowed table: map it read-only and tell the caller to emulate."""
    if entries(m)[page * ENTRIES + slot] & PRESENT == 0:
        set_l1_entry(m, page, slot, gfn, PRESENT | ACCESSED | (leaf & USER) | GUEST_WRITES)
    pay(m, _EXIT, BASE, 1)
    pay(m, _EMULATED, BASE, 1)
    count_fault(m, _F_EMULATED, gfn)
    mark_dirty(m, gfn, BY_LOG)
    return gfn + EMULATE


@kernel
def _settle_table_write(m: Core, va: int, gfn: int, write: int) -> None:
    # User code or a page clear writes here: whatever it was, it is no table any more.
    if va >= KERNEL_BASE and write != BLOCK_WRITE:
        return
    if frame_at(m, gfn).types != 0:
        unshadow(m, gfn)
    forget_table(m, gfn)


@kernel
def shadow_fault(m: Core, va: int, write: int) -> int:
    """Handle one shadow page fault and complete the access's translation.

    Returns:
        The gfn; gfn + EMULATE for a store to a page table; GUEST_FAULT.
    """
    walk = guest_walk(m, va)
    gfn = walk[0]
    if gfn < 0 or (write != 0 and walk[1] == 0):
        pay(m, _EXIT, BASE, 1)
        return GUEST_FAULT
    make_room(m)
    if write != 0:
        _settle_table_write(m, va, gfn, write)
    set_accessed_dirty(m, va, walk, write)
    links = any_out_of_sync(m) and _lacks_l2(m, va)
    again = m.log.enabled == 1 and frame_at(m, walk[3]).seen & 1 << L2 != 0
    l2 = _get_l2(m, va, walk)
    page = _get_l1(m, va, walk, l2)
    if links:
        resync_all(m, _REBUILD if again else BASE)
    return _fix_entry(m, va, write, walk, page, l2 * ENTRIES + slot_of(va, 2))


@kernel
def _fix_entry(m: Core, va: int, write: int, walk: Walk, page: int, parent_id: int) -> int:
    gfn = walk[0]
    slot = slot_of(va, 1)
    leaf = walk[5] | ACCESSED | (DIRTY if write else 0)
    if walk[1] == 0:
        leaf &= ~WRITABLE
    cause = _classify(m, page, slot, gfn, write)
    if write != 0 and frame_at(m, gfn).types != 0 and not go_out_of_sync(m, gfn, cause):
        return _emulate(m, page, slot, gfn, leaf)
    if cause == BASE:
        _baseline_fault(m, page, slot, leaf)
        if write != 0:
            twin_unsyncs(m, gfn)
    _pay_fault(m, page, slot, gfn, write, cause)
    flags = _flags_for(m, gfn, leaf)
    if write != 0 or _read_opens(m, gfn, leaf):
        _grant_write(m, page, slot, gfn, flags, parent_id)
    else:
        set_l1_entry(m, page, slot, gfn, flags)
    _note_built(m, page, slot)
    if m.shadow.prefetch:
        _prefetch(m, page, slot, _REBUILD if cause != BASE else BASE)
    entry = entries(m)[page * ENTRIES + slot]
    writable = 1 if entry & (WRITABLE | DIRTY) == WRITABLE | DIRTY else 0
    base_writable = 1 if leaf & (WRITABLE | DIRTY) == WRITABLE | DIRTY else 0
    fill_tlb(m, va >> FRAME_SHIFT, gfn, writable, base_writable)
    return gfn
