"""One store of the guest's kernel, from TLB to frame, through its direct map.

A kernel that is panicking stores nothing any more, and one whose direct map leads elsewhere
panics: nothing is ever stored where it was not logged.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import frame_at, memory, tlb_at
from paging_core.kernels.baseline import forget_entry, forget_table, is_table_untracked
from paging_core.kernels.exits import emulate_store, translate_miss
from paging_core.kernels.state import KERNEL_BASE, PANICKED, Core
from paging_core.kernels.tlb import tlb_tag
from paging_core.kernels.translation import BLOCK_WRITE, EMULATE
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME


@kernel
def translate_write(m: Core, va: int, write: int) -> int:
    """Translate for a store, from the TLB or by the hypervisor; returns as `translate_miss`."""
    slot = tlb_at(m, (va >> FRAME_SHIFT) & m.tlb.mask)
    if slot.tag == tlb_tag(m, va >> FRAME_SHIFT) and slot.writable:
        return slot.gfn
    return translate_miss(m, va, write, 0)


@kernel
def panic(m: Core) -> None:
    """The guest's kernel found nonsense in its own memory: the guest has crashed."""
    if m.vcpu.out_of_memory == 0:
        m.vcpu.out_of_memory = PANICKED


@kernel
def kernel_store(m: Core, gfn: int, word: int, value: int) -> None:
    """The guest kernel stores a word to a frame."""
    if m.vcpu.out_of_memory == PANICKED:
        return
    at = translate_write(m, KERNEL_BASE + (gfn << FRAME_SHIFT) + (word << 3), 1)
    if at == gfn:
        frame_at(m, gfn).written = 1
        memory(m)[gfn * WORDS_PER_FRAME + word] = value
        if is_table_untracked(m, gfn):  # and after a clean shadowed no more: nothing is emulated
            forget_entry(m, int(frame_at(m, gfn).baseline), word)
    elif at == gfn + EMULATE:
        frame_at(m, gfn).written = 1
        emulate_store(m, gfn, word, value)
    else:
        panic(m)


@kernel
def kernel_block(m: Core, gfn: int) -> bool:
    """Make a frame ready for the guest kernel to fill it whole; False if it must not."""
    if m.vcpu.out_of_memory == PANICKED:
        return False
    at = translate_write(m, KERNEL_BASE + (gfn << FRAME_SHIFT), BLOCK_WRITE)
    if at & (EMULATE - 1) != gfn:
        panic(m)
        return False
    frame_at(m, gfn).written = 1
    if frame_at(m, gfn).types == 0 and is_table_untracked(m, gfn):
        forget_table(m, gfn)  # likewise: no fault says so
    return True
