"""The guest's own kernel: address spaces, demand paging, fork with copy-on-write, exit.

By default it writes entries as Linux does (`core.fresh_bits`; functions of mm/memory.c, 6.6):

    tables           _PAGE_TABLE has A and D (arch/x86/include/asm/pgtable_types.h)
    write fault      do_anonymous_page: a frame of zeros; vm_page_prot has A, pte_mkdirty sets D
    read fault       do_anonymous_page: the shared zero page, read-only, young
    write to shared  do_wp_page: a copy, or the page itself for its last owner; young and dirty
    fork             copy_present_pte: read-only in both (pte_wrprotect), old in the child
    flushes          flush_tlb_mm_range (arch/x86/mm/tlb.c): INVLPG page by page, above 33 pages
                     CR3; a page that is copied is flushed (ptep_clear_flush of wp_page_copy),
                     one that its last owner keeps is not (wp_page_reuse)

`ZERO_FRAME` has no reference count, as a special entry (pte_mkspecial) has none.

It edits real x86-64 tables in guest frames with stores of its own, so the hypervisor sees
what it would see of a real kernel: traps on table writes, INVLPG, CR3 loads.

It trusts nothing in memory: entries are followed through `frame_in`, bits of an
entry that is not present mean nothing, and a fork or an exit that comes by more frames than the
guest has (tables that are there twice, or that lead in a circle) is a panic.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.access import kernel_store, panic
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import memory
from paging_core.kernels.cr3 import guest_flush, guest_invalidate, load_cr3
from paging_core.kernels.guest_frames import (
    clear_frame,
    copy_frame,
    frame_in,
    put_frame,
    references,
    set_references,
    superpage_in,
    take_frame,
    take_huge_frame,
)
from paging_core.kernels.guest_mappings import (
    copy_mappings,
    end_mappings,
    is_copied_by_fork,
    maps_file,
    remove_mappings,
)
from paging_core.kernels.guest_walk import HUGE, slot_of
from paging_core.kernels.state import (
    ACCESSED,
    ENTRIES,
    GUEST_COW,
    PRESENT,
    SUPERPAGE,
    USER,
    WRITABLE,
    ZERO_FRAME,
    Core,
)
from paging_core.units import FRAME_SHIFT
from paging_core.workloads.ops import MAX_PROCESSES

LEAF = PRESENT | WRITABLE | USER
"""A fresh mapping, beside `core.fresh_bits`."""
_ZERO_PAGE = ZERO_FRAME << FRAME_SHIFT | PRESENT | USER | ACCESSED | GUEST_COW
FLUSH_CEILING = 33
"""tlb_single_page_flush_ceiling (arch/x86/mm/tlb.c): beyond, one flush of everything is cheaper."""
_IN_SUPERPAGE = (1 << 21) - 1
KERNEL_SLOT = 256
"""The L4 slot of the direct map, in every address space."""

COW = PRESENT | GUEST_COW
_GUEST_FAULT = int(Event.GUEST_FAULT)


@kernel
def works_on(m: Core) -> bool:
    """One more table or page of what an operation goes over: all of them are different frames."""
    m.kernel_work += 1
    if m.kernel_work > m.n_frames:
        panic(m)
        return False
    return True


@kernel
def _take_table(m: Core) -> int:
    table = take_frame(m)
    clear_frame(m, table)
    return table


@kernel
def _next_table(m: Core, table: int, slot: int) -> int:
    entry = memory(m)[table * ENTRIES + slot]
    if entry & PRESENT:
        return frame_in(m, entry)
    below = _take_table(m)
    kernel_store(m, table, slot, (below << FRAME_SHIFT) | LEAF | m.fresh_bits)
    return below


@kernel
def _l2_table(m: Core, root: int, va: int) -> int:
    l3 = _next_table(m, root, slot_of(va, 4))
    return _next_table(m, l3, slot_of(va, 3))


@kernel
def _split_superpage(m: Core, l2: int, slot: int) -> int:
    """Replace a guest 2 MiB mapping by a table of 4 KiB ones; returns the table."""
    entry = memory(m)[l2 * ENTRIES + slot]
    flags = entry & 0xFFF & ~SUPERPAGE
    head = superpage_in(m, entry)
    table = _take_table(m)
    for i in range(ENTRIES):
        kernel_store(m, table, i, ((head + i) << FRAME_SHIFT) | flags)
    kernel_store(m, l2, slot, (table << FRAME_SHIFT) | LEAF | m.fresh_bits)
    return table


@kernel
def l1_table(m: Core, root: int, va: int) -> int:
    """The L1 table of an address, made if there is none."""
    l2 = _l2_table(m, root, va)
    slot = slot_of(va, 2)
    if memory(m)[l2 * ENTRIES + slot] & HUGE == HUGE:
        table = _split_superpage(m, l2, slot)
        guest_invalidate(m, va & ~_IN_SUPERPAGE, ENTRIES)
        return table
    return _next_table(m, l2, slot)


@kernel
def _existing_l2(m: Core, root: int, va: int) -> int:
    entry = memory(m)[root * ENTRIES + slot_of(va, 4)]
    if entry & PRESENT == 0:
        return -1
    entry = memory(m)[frame_in(m, entry) * ENTRIES + slot_of(va, 3)]
    return frame_in(m, entry) if entry & PRESENT else -1


@kernel
def existing_l1(m: Core, root: int, va: int) -> int:
    """The L1 table of an address, or -1."""
    l2 = _existing_l2(m, root, va)
    if l2 < 0:
        return -1
    entry = memory(m)[l2 * ENTRIES + slot_of(va, 2)]
    return frame_in(m, entry) if entry & HUGE == PRESENT else -1


@kernel
def map_page(m: Core, root: int, va: int) -> None:
    """Give a page a fresh zero frame, unless something is mapped there."""
    l1 = l1_table(m, root, va)
    if memory(m)[l1 * ENTRIES + slot_of(va, 1)] & PRESENT:
        return
    gfn = take_frame(m)
    clear_frame(m, gfn)
    kernel_store(m, l1, slot_of(va, 1), (gfn << FRAME_SHIFT) | LEAF | m.fresh_bits)


@kernel
def _map_huge(m: Core, root: int, va: int) -> None:
    l2 = _l2_table(m, root, va)
    entry = memory(m)[l2 * ENTRIES + slot_of(va, 2)]
    if entry & HUGE == HUGE:
        return
    head = -1 if entry & PRESENT else take_huge_frame(m)
    if head < 0:
        # A table stands there, or no contiguous memory is left: small pages, as Linux does.
        for i in range(ENTRIES):
            map_page(m, root, va + (i << FRAME_SHIFT))
        return
    for i in range(ENTRIES):
        clear_frame(m, head + i)
    kernel_store(m, l2, slot_of(va, 2), (head << FRAME_SHIFT) | LEAF | SUPERPAGE | m.fresh_bits)


@kernel
def map_range(m: Core, va: int, pages: int, huge: bool) -> None:
    """Map a range, populated: fresh zero pages in the current process."""
    root = m.vcpu.cr3
    if maps_file(m, m.vcpu.process, va, va + (pages << FRAME_SHIFT)):
        unmap_range(m, va, pages)
    step = ENTRIES if huge else 1
    for i in range(0, pages, step):
        if m.vcpu.out_of_memory:
            return
        if huge:
            _map_huge(m, root, va + (i << FRAME_SHIFT))
        else:
            map_page(m, root, va + (i << FRAME_SHIFT))


@kernel
def _unmap_huge(m: Core, l2: int, va: int) -> None:
    head = superpage_in(m, memory(m)[l2 * ENTRIES + slot_of(va, 2)])
    kernel_store(m, l2, slot_of(va, 2), 0)
    for i in range(ENTRIES):
        put_frame(m, head + i)


@kernel
def _unmap_page(m: Core, root: int, va: int) -> bool:
    l1 = l1_table(m, root, va)
    slot = slot_of(va, 1)
    entry = memory(m)[l1 * ENTRIES + slot]
    if entry & PRESENT == 0:
        return False
    kernel_store(m, l1, slot, 0)
    put_frame(m, frame_in(m, entry))
    return True


@kernel
def _flush_range(m: Core, first: int, end: int, huge: bool) -> None:
    """flush_tlb_mm_range: from the first to the last page that was unmapped, and all between."""
    pages = ENTRIES if huge else 1
    step = pages << FRAME_SHIFT
    if end - first > FLUSH_CEILING * step:
        guest_flush(m)
        return
    for va in range(first, end, step):
        guest_invalidate(m, va, pages)


@kernel
def unmap_range(m: Core, va: int, pages: int) -> None:
    """Unmap a range of the current process; what is not mapped is passed over."""
    root = m.vcpu.cr3
    at = va
    end = va + (pages << FRAME_SHIFT)
    first, last, huge = end, va, True
    while at < end and m.vcpu.out_of_memory == 0:
        l2 = _existing_l2(m, root, at)
        entry = memory(m)[l2 * ENTRIES + slot_of(at, 2)] if l2 >= 0 else 0
        if entry & PRESENT == 0:
            at = ((at >> 21) + 1) << 21
        elif entry & SUPERPAGE and at & 0x1FFFFF == 0 and end - at >= 1 << 21:
            _unmap_huge(m, l2, at)
            first, last = min(first, at), at + (1 << 21)
            at += 1 << 21
        else:
            if _unmap_page(m, root, at):
                first, last, huge = min(first, at), at + (1 << FRAME_SHIFT), False
            at += 1 << FRAME_SHIFT
    _flush_range(m, first, last, huge)
    remove_mappings(m, va, end)


@kernel
def _share_table(m: Core, parent: int, child: int, va: int) -> None:
    """Copy the leaves of the L1 table of an address; writable ones become copy-on-write in both."""
    process = m.vcpu.process
    some_file = maps_file(m, process, va, va + (ENTRIES << FRAME_SHIFT))
    for slot in range(ENTRIES):
        entry = memory(m)[parent * ENTRIES + slot]
        if entry & PRESENT == 0:
            continue
        if some_file and not is_copied_by_fork(m, process, va + (slot << FRAME_SHIFT)):
            continue
        gfn = frame_in(m, entry)
        if gfn != ZERO_FRAME and not some_file and not works_on(m):
            return
        if entry & WRITABLE:
            entry = (entry & ~WRITABLE) | GUEST_COW
            kernel_store(m, parent, slot, entry)
        if gfn != ZERO_FRAME:
            set_references(m, gfn, references(m, gfn) + 1)
        kernel_store(m, child, slot, entry & ~(ACCESSED & m.fresh_bits))


@kernel
def _share_l2(m: Core, parent: int, child: int, va: int) -> None:
    for slot in range(ENTRIES):
        entry = memory(m)[parent * ENTRIES + slot]
        if entry & PRESENT == 0:
            continue
        if not works_on(m):
            return
        huge = entry & SUPERPAGE
        table = _split_superpage(m, parent, slot) if huge else frame_in(m, entry)
        _share_table(m, table, _next_table(m, child, slot), va + (slot << 21))


@kernel
def fork(m: Core, process: int) -> None:
    """Copy the current address space, copy-on-write, into a free process slot."""
    if not 0 <= process < MAX_PROCESSES:
        panic(m)
        return
    m.kernel_work = 0
    vcpu = m.vcpu
    parent = vcpu.cr3
    child = _take_table(m)
    kernel_store(m, child, KERNEL_SLOT, memory(m)[parent * ENTRIES + KERNEL_SLOT])
    for i4 in range(KERNEL_SLOT):
        if memory(m)[parent * ENTRIES + i4] & PRESENT == 0:
            continue
        parent3 = frame_in(m, memory(m)[parent * ENTRIES + i4])
        child3 = _next_table(m, child, i4)
        for i3 in range(ENTRIES):
            if memory(m)[parent3 * ENTRIES + i3] & PRESENT and works_on(m):
                child2 = _next_table(m, child3, i3)
                va = (i4 << 39) + (i3 << 30)
                _share_l2(m, frame_in(m, memory(m)[parent3 * ENTRIES + i3]), child2, va)
    vcpu.roots[process] = child
    copy_mappings(m, vcpu.process, process)
    guest_flush(m)


@kernel
def _put_page(m: Core, entry: int, counted: bool) -> None:
    if entry & PRESENT:
        gfn = frame_in(m, entry)
        if gfn != ZERO_FRAME and (not counted or works_on(m)):
            put_frame(m, gfn)


@kernel
def _free_l2(m: Core, l2: int, counted: bool) -> None:
    """Free the tables and pages below one.

    Args:
        counted: no page is mapped twice, as one of a file can be.
    """
    for slot in range(ENTRIES):
        entry = memory(m)[l2 * ENTRIES + slot]
        if entry & PRESENT == 0 or not works_on(m):
            continue
        if entry & SUPERPAGE:
            head = superpage_in(m, entry)
            for i in range(ENTRIES):
                put_frame(m, head + i)
            continue
        table = frame_in(m, entry)
        for i in range(ENTRIES):
            _put_page(m, memory(m)[table * ENTRIES + i], counted)
        put_frame(m, table)


@kernel
def end_process(m: Core, process: int) -> None:
    """Free a process's pages and tables; the one that runs is not ended."""
    if not 0 <= process < MAX_PROCESSES:
        panic(m)
        return
    root = m.vcpu.roots[process]
    if root == 0 or process == m.vcpu.process:
        return
    m.kernel_work = 0
    for i4 in range(KERNEL_SLOT):
        if memory(m)[root * ENTRIES + i4] & PRESENT == 0:
            continue
        l3 = frame_in(m, memory(m)[root * ENTRIES + i4])
        for i3 in range(ENTRIES):
            if memory(m)[l3 * ENTRIES + i3] & PRESENT and works_on(m):
                l2 = frame_in(m, memory(m)[l3 * ENTRIES + i3])
                _free_l2(m, l2, m.vcpu.mappings[process] == 0)
                put_frame(m, l2)
        put_frame(m, l3)
    put_frame(m, root)
    m.vcpu.roots[process] = 0
    end_mappings(m, process)


@kernel
def switch_process(m: Core, process: int) -> None:
    """Run another process from here on."""
    vcpu = m.vcpu
    if not 0 <= process < MAX_PROCESSES:
        panic(m)
        return
    if vcpu.roots[process] == 0 or process == vcpu.process:
        return
    vcpu.process = process
    load_cr3(m, vcpu.roots[process])


@kernel
def copy_on_write(m: Core, l1: int, slot: int, va: int) -> None:
    """A store to a page that is shared: a copy, or the page itself for its last owner."""
    entry = memory(m)[l1 * ENTRIES + slot]
    gfn = frame_in(m, entry)
    flags = (entry & 0xFFF & ~GUEST_COW) | WRITABLE | m.fresh_bits
    own = gfn
    if gfn == ZERO_FRAME:
        own = take_frame(m)
        clear_frame(m, own)
    elif references(m, gfn) > 1:
        own = take_frame(m)
        copy_frame(m, gfn, own)
        put_frame(m, gfn)
    kernel_store(m, l1, slot, (own << FRAME_SHIFT) | flags)
    if own != gfn:
        guest_invalidate(m, va, 1)


@kernel
def handle_anonymous_fault(m: Core, va: int, write: int) -> None:
    """A fault where no file is mapped: copy-on-write, the zero page, or a page of zeros."""
    pay(m, _GUEST_FAULT, BASE, 1)
    root = m.vcpu.cr3
    l1 = l1_table(m, root, va)
    slot = slot_of(va, 1)
    entry = memory(m)[l1 * ENTRIES + slot]
    if entry & COW == COW:
        copy_on_write(m, l1, slot, va)
    elif write == 0 and m.fresh_bits and entry & PRESENT == 0:
        kernel_store(m, l1, slot, _ZERO_PAGE)
    else:
        map_page(m, root, va)
