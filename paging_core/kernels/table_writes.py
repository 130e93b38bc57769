"""What the hypervisor does after it emulated a store to a guest page table."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.account import BASE
from paging_core.kernels.arrays import frame_at
from paging_core.kernels.dirty_ring import leave_full_ring
from paging_core.kernels.kvm_table_writes import kvm_table_write
from paging_core.kernels.out_of_sync import forget_slot
from paging_core.kernels.shadow_pages import clear_upper_entry, find_page
from paging_core.kernels.state import FL1, L1, L4, Core


@kernel
def after_table_write(m: Core, gfn: int, slot: int) -> None:
    """Drop the shadow entries of one changed guest entry, L1 before the upper levels.

    They are built again, from the new guest entry, by the next fault that needs them.
    """
    if m.kvm.mmu:
        kvm_table_write(m, gfn, slot)
        leave_full_ring(m)
        return
    for kind in range(L1, L4 + 1):
        if kind == FL1 or frame_at(m, gfn).types & (1 << kind) == 0:
            continue
        page = find_page(m, gfn, kind)
        if kind == L1:
            forget_slot(m, page, slot)
        else:
            clear_upper_entry(m, page, slot, BASE)
