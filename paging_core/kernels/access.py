"""One access of the guest, by user code or by its kernel, from TLB to frame."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.hap import hap_translate
from paging_core.kernels.shadow_fault import EMULATE
from paging_core.kernels.shadow_walk import shadow_translate
from paging_core.kernels.state import KERNEL_BASE, SHADOW, Machine
from paging_core.kernels.table_writes import after_table_write
from paging_core.kernels.tlb import pay_miss, tlb_tag


@kernel
def translate_slow(m: Machine, va: int, write: int) -> int:
    """Translate after a TLB miss; as `shadow_fault` returns."""
    pay_miss(m, va >> 12, write)
    if m.host[0].paging == SHADOW:
        return shadow_translate(m, va, write)
    return hap_translate(m, va, write)


@kernel
def translate(m: Machine, va: int, write: int) -> int:
    """Translate, through the TLB."""
    slot = m.tlb[(va >> 12) & m.host[0].tlb_mask]
    if slot.tag == tlb_tag(m, va >> 12) and (write == 0 or slot.writable):
        return slot.gfn
    return translate_slow(m, va, write)


@kernel
def kernel_store(m: Machine, gfn: int, word: int, value: int) -> None:
    """The guest kernel stores a word to a frame, through its direct map."""
    at = translate(m, KERNEL_BASE + (gfn << 12) + (word << 3), 1)
    m.memory[gfn, word] = value
    m.frames[gfn].written = 1
    if at >= EMULATE:
        after_table_write(m, gfn, word)


@kernel
def kernel_block(m: Machine, gfn: int) -> None:
    """Make a frame ready for the guest kernel to fill it whole."""
    translate(m, KERNEL_BASE + (gfn << 12), 2)
    m.frames[gfn].written = 1
