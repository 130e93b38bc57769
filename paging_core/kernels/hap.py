"""Hardware-assisted paging: accesses through the P2M, its exits, and page-modification logging."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event, Fault
from paging_core.kernels.account import count_fault, count_fixup, pay
from paging_core.kernels.arrays import frame_at, memory, p2m, pml
from paging_core.kernels.bitmap import BY_FIXUP, BY_LOG, mark_dirty, set_dirty
from paging_core.kernels.groups import open_physical_group
from paging_core.kernels.guest_walk import Walk, guest_walk, missing_bits, slot_of
from paging_core.kernels.p2m import (
    P2M_DIRTY,
    P2M_RECALC,
    P2M_WRITE,
    leaf_at,
    leaf_level,
    open_leaf,
    resolve_misconfig,
    split,
)
from paging_core.kernels.state import DIRTY, ENTRIES, Core
from paging_core.kernels.tlb import fill_tlb, sync_p2m
from paging_core.kernels.translation import GUEST_FAULT
from paging_core.units import FRAME_SHIFT

_EXIT = int(Event.EXIT)
_VIOLATION = int(Event.P2M_VIOLATION)
_FAST_FAULT = int(Event.P2M_FAST_FAULT)
_MISCONFIG = int(Event.P2M_MISCONFIG)
_PML_FULL = int(Event.PML_FULL)
_PML_ENTRY = int(Event.PML_ENTRY)
_FIXUP = int(Cause.FIXUP)
_P2M = int(Cause.P2M)
_PML = int(Cause.PML)
_F_VIOLATION = int(Fault.P2M_VIOLATION)
_F_MISCONFIG = int(Fault.MISCONFIGURATION)
_F_PML_FULL = int(Fault.PML_FULL)


@kernel
def _touch(m: Core, gfn: int) -> None:
    """Any access: take the misconfiguration exit if a clean left a mark on the path."""
    flags = p2m(m)
    starts = m.hap.p2m_start
    path = flags[starts[4] + (gfn >> 27)] | flags[starts[3] + (gfn >> 18)]
    path |= flags[starts[2] + (gfn >> 9)]
    if path & P2M_RECALC and resolve_misconfig(m, gfn):
        pay(m, _EXIT, _P2M, 1)
        pay(m, _MISCONFIG, _P2M, 1)
        count_fault(m, _F_MISCONFIG, gfn)


@kernel
def drain_pml(m: Core) -> None:
    """Mark every frame that the hardware logged, and empty the log; one sync at its end.

    Xen's ept_vcpu_flush_pml_buffer holds the P2M's lock meanwhile, which defers the sync.
    """
    pay(m, _PML_ENTRY, _PML, m.hap.pml_used)
    for i in range(m.hap.pml_used):
        set_dirty(m, pml(m)[i], BY_LOG)
    m.hap.pml_used = 0
    sync_p2m(m, _PML)


@kernel
def _pay_violation(m: Core, gfn: int) -> None:
    """Charge for a violation; KVM's of a frame is mended without its lock (fast_page_fault)."""
    fast = m.hap.fast == 1 and leaf_level(m, gfn) == 1
    pay(m, _EXIT, _FIXUP, 1)
    pay(m, _FAST_FAULT if fast else _VIOLATION, _FIXUP, 1)
    count_fault(m, _F_VIOLATION, gfn)
    if m.hap.fast:
        m.kvm.taken += 1
        m.kvm.fixed += 1
        m.kvm.fast += 1 if fast else 0


@kernel
def _violation(m: Core, gfn: int) -> None:
    """A write met a read-only entry: split down to the group's size, mark, restore write."""
    if m.hap.fast and m.hap.pml_used > 0:
        drain_pml(m)  # vmx_flush_pml_buffer: at the start of every exit
    _pay_violation(m, gfn)
    # Only a group that opens for certain may keep a superpage whole.
    certain = m.group.adaptive == 0 and m.group.trigger == 1
    smallest = 2 if m.group.frames >= ENTRIES and certain else 1
    level = leaf_level(m, gfn)
    while level > smallest:
        split(m, gfn, level)
        level -= 1
    sync_p2m(m, _FIXUP)  # once: the splits and the group's entries are changed under one lock
    if m.hap.pml == 1:
        return
    open_leaf(m, gfn)
    if mark_dirty(m, gfn, BY_FIXUP):
        count_fixup(m)
    # A writable superpage lets every frame of it be written unseen: all are marked.
    if m.group.frames > 1:
        open_physical_group(m, gfn)


@kernel
def _log_modification(m: Core, gfn: int) -> None:
    pml(m)[m.hap.pml_used] = gfn
    m.hap.pml_used += 1
    if m.hap.pml_used == m.hap.pml_entries:
        pay(m, _EXIT, _PML, 1)
        pay(m, _PML_FULL, _PML, 1)
        count_fault(m, _F_PML_FULL, gfn)
        drain_pml(m)


@kernel
def p2m_access(m: Core, gfn: int, write: int) -> bool:
    """One access through the P2M; returns whether it is writable with its D bit set."""
    _touch(m, gfn)
    at = leaf_at(m, gfn)
    if write != 0:
        if p2m(m)[at] & P2M_WRITE == 0:
            _violation(m, gfn)
            at = leaf_at(m, gfn)
        if p2m(m)[at] & P2M_DIRTY == 0:
            p2m(m)[at] |= P2M_DIRTY
            if m.hap.pml == 1 and m.log.enabled == 1:
                _log_modification(m, gfn)
    return p2m(m)[at] & (P2M_WRITE | P2M_DIRTY) == P2M_WRITE | P2M_DIRTY


@kernel
def _touch_table(m: Core, table: int, slot: int, leaf: bool, write: int) -> None:
    """The walker reads one guest entry and sets its A and D bits: a write through the P2M."""
    entry = memory(m)[table * ENTRIES + slot]
    missing = missing_bits(entry, leaf, write)
    if missing == 0:
        _touch(m, table)
    else:
        p2m_access(m, table, 1)
        memory(m)[table * ENTRIES + slot] = entry | missing
        frame_at(m, table).written = 1


@kernel
def _walk_tables(m: Core, va: int, walk: Walk, write: int) -> None:
    _, _, t3, t2, t1, _ = walk
    _touch_table(m, m.vcpu.cr3, slot_of(va, 4), False, write)
    _touch_table(m, t3, slot_of(va, 3), False, write)
    _touch_table(m, t2, slot_of(va, 2), t1 < 0, write)
    if t1 >= 0:
        _touch_table(m, t1, slot_of(va, 1), True, write)


@kernel
def hap_translate(m: Core, va: int, write: int) -> int:
    """The two-dimensional walk after a TLB miss; returns the gfn or GUEST_FAULT."""
    walk = guest_walk(m, va)
    gfn = walk[0]
    if gfn < 0 or (write != 0 and walk[1] == 0):
        return GUEST_FAULT
    _walk_tables(m, va, walk, write)
    ready = p2m_access(m, gfn, write)
    guest_ready = walk[1] != 0 and (write != 0 or walk[5] & DIRTY != 0)
    fill_tlb(m, va >> FRAME_SHIFT, gfn, 1 if ready and guest_ready else 0, 1 if guest_ready else 0)
    return gfn
