"""What the hardware does under shadow paging: walk the shadows, set A and D, fill the TLB."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import entries
from paging_core.kernels.dirty_ring import leave_full_ring
from paging_core.kernels.guest_walk import frame_of, slot_of
from paging_core.kernels.kvm_fault import kvm_fault
from paging_core.kernels.shadow_fault import shadow_fault
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    GUEST_WRITES,
    PRESENT,
    WRITABLE,
    Core,
)
from paging_core.kernels.tlb import fill_tlb
from paging_core.kernels.translation import EMULATE
from paging_core.units import FRAME_SHIFT


@kernel
def _fault(m: Core, va: int, write: int) -> int:
    return kvm_fault(m, va, write) if m.kvm.mmu else shadow_fault(m, va, write)


@kernel
def shadow_l1(m: Core, va: int) -> int:
    """The lowest shadow page on the way to an address, or -1 where there is none."""
    page = m.shadow.root
    for level in (4, 3, 2):
        entry = entries(m)[page * ENTRIES + slot_of(va, level)]
        if entry & PRESENT == 0:
            return -1
        page = entry >> FRAME_SHIFT
    return page


@kernel
def _translate(m: Core, va: int, write: int) -> int:
    page = shadow_l1(m, va)
    if page < 0:
        return _fault(m, va, write)
    slot = slot_of(va, 1)
    entry = entries(m)[page * ENTRIES + slot]
    if entry & PRESENT == 0 or (write != 0 and entry & WRITABLE == 0):
        return _fault(m, va, write)
    entry |= ACCESSED
    if write != 0:
        entry |= DIRTY
    entries(m)[page * ENTRIES + slot] = entry
    ready = 1 if entry & (WRITABLE | DIRTY) == WRITABLE | DIRTY else 0
    gfn = frame_of(entry)
    fill_tlb(m, va >> FRAME_SHIFT, gfn, ready, 1 if entry & GUEST_WRITES else 0)
    return gfn


@kernel
def shadow_translate(m: Core, va: int, write: int) -> int:
    """Translate after a TLB miss; a fault is handled on the way.

    Returns:
        As `shadow_fault` does.
    """
    found = _translate(m, va, write)
    while leave_full_ring(m):
        if 0 <= found < EMULATE:  # it runs only now, and may be protected again
            found = _translate(m, va, write)
    return found
