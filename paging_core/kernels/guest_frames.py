"""The guest kernel's frame allocator; its reference counts live in guest memory.

One 16-bit count per frame, four to a word, from frame 1 on. The kernel reads its own
structures for free; its stores go through the direct map like any other guest store and
are tracked, trapped and migrated like any other.

What it reads there may be anything. A frame number is used only if the guest has such a frame,
a count only within 16 bits; where that does not hold, the kernel panics and frame 0 stands in.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.access import kernel_block, kernel_store, panic
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import memory
from paging_core.kernels.guest_walk import present_frame, superpage_head
from paging_core.kernels.state import ENTRIES, OUT_OF_MEMORY, SLOT_MASK, WORD_MASK, Core
from paging_core.units import WORDS_PER_FRAME

_MOST_REFERENCES = 0xFFFF
COUNTS_FRAME = 1
"""First frame of the reference counts."""

_CLEAR = int(Event.GUEST_PAGE_CLEAR)
_COPY = int(Event.GUEST_PAGE_COPY)


@kernel
def frame_in(m: Core, entry: int) -> int:
    """The frame that a present entry maps, as the guest's kernel follows it."""
    gfn = present_frame(m, entry)
    if gfn < 0:
        panic(m)
        return 0
    return gfn


@kernel
def superpage_in(m: Core, entry: int) -> int:
    """Likewise the first frame of a superpage."""
    head = superpage_head(m, entry)
    if head < 0:
        panic(m)
        return 0
    return head


@kernel
def references(m: Core, gfn: int) -> int:
    """How many mappings hold a frame; 0 is free."""
    word = memory(m)[(COUNTS_FRAME + (gfn >> 11)) * WORDS_PER_FRAME + ((gfn >> 2) & WORD_MASK)]
    return (word >> ((gfn & 3) * 16)) & 0xFFFF


@kernel
def set_references(m: Core, gfn: int, count: int) -> None:
    """Store a frame's reference count; one that is none is a panic."""
    if not 0 <= count <= _MOST_REFERENCES:
        panic(m)
        return
    table = COUNTS_FRAME + (gfn >> 11)
    slot = (gfn >> 2) & WORD_MASK
    shift = (gfn & 3) * 16
    word = memory(m)[table * WORDS_PER_FRAME + slot]
    kernel_store(m, table, slot, (word & ~(0xFFFF << shift)) | (count << shift))


@kernel
def _find_free(m: Core, start: int, end: int) -> int:
    for gfn in range(start, end):
        if references(m, gfn) == 0:
            return gfn
    return -1


@kernel
def take_frame(m: Core) -> int:
    """Allocate a frame, next fit.

    With none left the guest kernel panics: `out_of_memory` is set and the reserved frame 0
    stands in until the operation under way has ended; nothing runs after it.
    """
    vcpu = m.vcpu
    gfn = -1
    if vcpu.free_frames > 0 and vcpu.out_of_memory == 0:
        gfn = _find_free(m, vcpu.alloc_hint, m.n_frames)
        if gfn < 0:
            gfn = _find_free(m, vcpu.first_frame, vcpu.alloc_hint)
    if gfn < 0:
        if vcpu.out_of_memory == 0:
            vcpu.out_of_memory = OUT_OF_MEMORY
        return 0
    vcpu.alloc_hint = gfn + 1
    vcpu.free_frames -= 1
    set_references(m, gfn, 1)
    return gfn


@kernel
def take_huge_frame(m: Core) -> int:
    """Allocate 512 contiguous, aligned frames; the first, or -1 if there are none."""
    vcpu = m.vcpu
    first = (vcpu.first_frame + SLOT_MASK) & ~SLOT_MASK
    for head in range(first, m.n_frames - SLOT_MASK, ENTRIES):
        free = True
        for gfn in range(head, head + ENTRIES):
            if references(m, gfn) != 0:
                free = False
                break
        if free:
            for gfn in range(head, head + ENTRIES):
                set_references(m, gfn, 1)
            vcpu.free_frames -= ENTRIES
            return head
    return -1


@kernel
def put_frame(m: Core, gfn: int) -> None:
    """Give up one reference."""
    if gfn == 0:
        return
    count = references(m, gfn) - 1
    set_references(m, gfn, count)
    if count == 0:
        m.vcpu.free_frames += 1


@kernel
def clear_frame(m: Core, gfn: int) -> None:
    """Fill a frame with zeros."""
    if not kernel_block(m, gfn):
        return
    pay(m, _CLEAR, BASE, 1)
    for i in range(WORDS_PER_FRAME):
        memory(m)[gfn * WORDS_PER_FRAME + i] = 0


@kernel
def copy_frame(m: Core, source: int, target: int) -> None:
    """Copy a frame."""
    if not kernel_block(m, target):
        return
    pay(m, _COPY, BASE, 1)
    for i in range(WORDS_PER_FRAME):
        memory(m)[target * WORDS_PER_FRAME + i] = memory(m)[source * WORDS_PER_FRAME + i]
