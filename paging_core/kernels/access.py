"""One store of the guest's kernel, from TLB to frame, through its direct map."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import frame_at, memory, tlb_at
from paging_core.kernels.exits import emulate_store, translate_miss
from paging_core.kernels.shadow_fault import BLOCK_WRITE, EMULATE
from paging_core.kernels.state import KERNEL_BASE, Core
from paging_core.kernels.tlb import tlb_tag


@kernel
def _translate_write(m: Core, va: int, write: int) -> int:
    slot = tlb_at(m, (va >> 12) & m.tlb_mask)
    if slot.tag == tlb_tag(m, va >> 12) and slot.writable:
        return slot.gfn
    return translate_miss(m, va, write, 0)


@kernel
def kernel_store(m: Core, gfn: int, word: int, value: int) -> None:
    """The guest kernel stores a word to a frame."""
    at = _translate_write(m, KERNEL_BASE + (gfn << 12) + (word << 3), 1)
    frame_at(m, gfn).written = 1
    if at >= EMULATE:
        emulate_store(m, gfn, word, value)
    else:
        memory(m)[gfn * 512 + word] = value


@kernel
def kernel_block(m: Core, gfn: int) -> None:
    """Make a frame ready for the guest kernel to fill it whole."""
    _translate_write(m, KERNEL_BASE + (gfn << 12), BLOCK_WRITE)
    frame_at(m, gfn).written = 1
