"""Pages of a file in the guest's kernel: its page cache, mappings of it, read() and write().

By Linux 6.6, mm/filemap.c, mm/memory.c, mm/rmap.c, mm/page-writeback.c:

    cache            filemap_fault, filemap_get_pages: a frame for a page, found by its number; it
                     holds one reference, each entry that maps it another
    read fault       do_read_fault: do_fault_around maps up to 16 cached pages around, read-only,
                     young; the page itself if it was not cached, a hole: zeros
    write, shared    do_shared_fault, or wp_page_shared where an entry is there: page_mkwrite tags
                     the page dirty in the cache, its entry becomes writable, young and dirty
    write, private   do_cow_fault, or wp_page_copy: the page is copied
    write-back       folio_mkclean: each writable shared entry becomes read-only and clean and is
                     flushed (page_vma_mkclean_one), and the tag goes
    fork             vma_needs_copy: no entries of shared ranges, nor of private ones without copies
    read(), write()  through the kernel's own mapping of the cached frame; write() tags it dirty

There is one file, of holes until it is written, and no disk below it: no page is ever evicted.
Its index is a tree in guest frames as an xarray is, of two levels with 512 slots: first
`vcpu.file_index`, then a leaf with frame number, PRESENT and, as PAGECACHE_TAG_DIRTY, DIRTY.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.access import kernel_store, panic
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import memory
from paging_core.kernels.cr3 import guest_invalidate
from paging_core.kernels.guest_frames import (
    clear_frame,
    copy_frame,
    frame_in,
    references,
    set_references,
    take_frame,
)
from paging_core.kernels.guest_kernel import (
    COW,
    LEAF,
    copy_on_write,
    existing_l1,
    handle_anonymous_fault,
    l1_table,
    unmap_range,
    works_on,
)
from paging_core.kernels.guest_mappings import (
    MAPPINGS,
    PRIVATE,
    SHARED,
    add_mapping,
    address_of,
    find_mapping,
    mapped_page,
    mapping_end,
    mapping_flags,
    mapping_start,
    note_copied,
)
from paging_core.kernels.guest_walk import slot_of
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    ENTRIES,
    GUEST_COW,
    PRESENT,
    SLOT_MASK,
    USER,
    WORD_MASK,
    WRITABLE,
    Core,
)
from paging_core.kernels.views import OpView
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import (
    FILE_PAGES,
    FILE_REWRITE,
    FILE_SYNC,
    FIRST_PAGE_SHIFT,
    MAX_PROCESSES,
    MMAP_PRIVATE,
    MMAP_SHARED,
    USER_TOP,
)

FAULT_AROUND = 16
"""Pages: fault_around_bytes of mm/memory.c, 64 KiB."""
_GUEST_FAULT = int(Event.GUEST_FAULT)
_CALL = int(Event.GUEST_FILE_CALL)
_IN_FRAME = (1 << FRAME_SHIFT) - 1
_COUNT_MASK = (1 << FIRST_PAGE_SHIFT) - 1


@kernel
def _new_node(m: Core) -> int:
    node = take_frame(m)
    clear_frame(m, node)
    return node


@kernel
def _leaf_of(m: Core, page: int) -> int:
    """The leaf of the index for a page, or -1."""
    if m.vcpu.file_index == 0:
        return -1
    entry = memory(m)[m.vcpu.file_index * ENTRIES + (page >> 9)]
    return frame_in(m, entry) if entry & PRESENT else -1


@kernel
def _make_leaf(m: Core, page: int) -> int:
    leaf = _leaf_of(m, page)
    if leaf >= 0:
        return leaf
    if m.vcpu.file_index == 0:
        m.vcpu.file_index = _new_node(m)
    leaf = _new_node(m)
    kernel_store(m, m.vcpu.file_index, page >> 9, (leaf << FRAME_SHIFT) | PRESENT)
    return leaf


@kernel
def _cached(m: Core, page: int) -> int:
    """The frame that holds a page, or -1."""
    leaf = _leaf_of(m, page)
    if leaf < 0:
        return -1
    entry = memory(m)[leaf * ENTRIES + (page & SLOT_MASK)]
    return frame_in(m, entry) if entry & PRESENT else -1


@kernel
def _page_of_file(m: Core, page: int, clear: bool) -> int:
    """The frame that holds a page from here on.

    Args:
        clear: if it is new; a write of all of it needs no zeros.
    """
    gfn = _cached(m, page)
    if gfn >= 0:
        return gfn
    gfn = take_frame(m)
    if clear:
        clear_frame(m, gfn)
    leaf = _make_leaf(m, page)
    kernel_store(m, leaf, page & SLOT_MASK, (gfn << FRAME_SHIFT) | PRESENT)
    return gfn


@kernel
def _tag_dirty(m: Core, page: int) -> None:
    leaf = _make_leaf(m, page)
    entry = memory(m)[leaf * ENTRIES + (page & SLOT_MASK)]
    if entry & DIRTY == 0:
        kernel_store(m, leaf, page & SLOT_MASK, entry | DIRTY)


@kernel
def _map_cached(m: Core, l1: int, slot: int, gfn: int, flags: int) -> None:
    set_references(m, gfn, references(m, gfn) + 1)
    kernel_store(m, l1, slot, (gfn << FRAME_SHIFT) | flags)


@kernel
def _read_only(m: Core, i: int) -> int:
    flags = PRESENT | USER | (ACCESSED & m.fresh_bits)
    if mapping_flags(m, m.vcpu.process, i) & PRIVATE:
        flags |= GUEST_COW
    return flags


@kernel
def _map_around(m: Core, l1: int, i: int, va: int) -> None:
    """do_fault_around, filemap_map_pages: in one table, in one range, what is cached."""
    process, slot = m.vcpu.process, slot_of(va, 1)
    before = (va - mapping_start(m, process, i)) >> FRAME_SHIFT
    after = (mapping_end(m, process, i) - 1 - va) >> FRAME_SHIFT
    first = max(slot & ~(FAULT_AROUND - 1), slot - min(slot, before))
    end = min(first + FAULT_AROUND, ENTRIES, slot + after + 1)
    for at in range(first, end):
        page = mapped_page(m, process, i, va + ((at - slot) << FRAME_SHIFT))
        gfn = _cached(m, page) if page >= 0 else -1
        if gfn >= 0 and memory(m)[l1 * ENTRIES + at] & PRESENT == 0:
            _map_cached(m, l1, at, gfn, _read_only(m, i))


@kernel
def _read_fault(m: Core, l1: int, i: int, va: int, page: int) -> None:
    _map_around(m, l1, i, va)
    slot = slot_of(va, 1)
    if memory(m)[l1 * ENTRIES + slot] & PRESENT == 0:
        _map_cached(m, l1, slot, _page_of_file(m, page, True), _read_only(m, i))


@kernel
def _shared_write(m: Core, l1: int, slot: int, page: int) -> None:
    """do_shared_fault, wp_page_shared."""
    entry = memory(m)[l1 * ENTRIES + slot]
    gfn = _page_of_file(m, page, True)
    _tag_dirty(m, page)
    if entry & PRESENT:
        kernel_store(m, l1, slot, entry | WRITABLE | m.fresh_bits)
    else:
        _map_cached(m, l1, slot, gfn, LEAF | m.fresh_bits)


@kernel
def _private_write(m: Core, l1: int, i: int, va: int, page: int) -> None:
    """do_cow_fault, do_wp_page."""
    note_copied(m, m.vcpu.process, i)
    slot = slot_of(va, 1)
    if memory(m)[l1 * ENTRIES + slot] & COW == COW:
        copy_on_write(m, l1, slot, va)
        return
    own = take_frame(m)
    copy_frame(m, _page_of_file(m, page, True), own)
    kernel_store(m, l1, slot, (own << FRAME_SHIFT) | LEAF | m.fresh_bits)


@kernel
def _file_fault(m: Core, i: int, va: int, write: int) -> None:
    pay(m, _GUEST_FAULT, BASE, 1)
    page = mapped_page(m, m.vcpu.process, i, va)
    if page < 0:
        return
    l1 = l1_table(m, m.vcpu.cr3, va)
    slot = slot_of(va, 1)
    if write == 0:
        _read_fault(m, l1, i, va, page)
    elif mapping_flags(m, m.vcpu.process, i) & SHARED:
        _shared_write(m, l1, slot, page)
    elif memory(m)[l1 * ENTRIES + slot] & WRITABLE == 0:
        _private_write(m, l1, i, va, page)


@kernel
def handle_guest_fault(m: Core, va: int, write: int) -> None:
    """The guest's page fault handler."""
    i = find_mapping(m, m.vcpu.process, va)
    if i < 0:
        handle_anonymous_fault(m, va, write)
    else:
        _file_fault(m, i, va, write)


@kernel
def _map_file(m: Core, va: int, pages: int, first_page: int, flags: int) -> None:
    """Mmap with MAP_FIXED: what was there goes."""
    end = va + (pages << FRAME_SHIFT)
    bad_range = va <= 0 or va & _IN_FRAME != 0 or pages <= 0 or end > USER_TOP
    if bad_range or first_page < 0 or first_page + pages > FILE_PAGES:
        panic(m)
        return
    unmap_range(m, va, pages)
    add_mapping(m, va, end, first_page, flags)


@kernel
def _clean_entry(m: Core, process: int, va: int) -> None:
    """page_vma_mkclean_one; another process flushes when it runs again."""
    l1 = existing_l1(m, m.vcpu.roots[process], va)
    if l1 < 0:
        return
    entry = memory(m)[l1 * ENTRIES + slot_of(va, 1)]
    if entry & PRESENT == 0 or entry & (WRITABLE | DIRTY) == 0:
        return
    kernel_store(m, l1, slot_of(va, 1), entry & ~(WRITABLE | DIRTY))
    if process == m.vcpu.process:
        guest_invalidate(m, va, 1)


@kernel
def _clean_entries(m: Core, page: int) -> None:
    """folio_mkclean: in every shared range of the file, whoever maps it."""
    for process in range(MAX_PROCESSES):
        if m.vcpu.roots[process] == 0 or m.vcpu.mappings[process] == 0:
            continue
        for i in range(MAPPINGS):
            va = address_of(m, process, i, page)
            if va >= 0 and mapping_flags(m, process, i) & SHARED:
                _clean_entry(m, process, va)


@kernel
def _write_back(m: Core, first: int, pages: int) -> None:
    """Clean the dirty pages of a part of the file, as if a disk took them."""
    m.kernel_work = 0
    for page in range(max(first, 0), min(first + pages, FILE_PAGES)):
        leaf = _leaf_of(m, page)
        if leaf < 0 or m.vcpu.out_of_memory:
            continue
        if memory(m)[leaf * ENTRIES + (page & SLOT_MASK)] & (PRESENT | DIRTY) != PRESENT | DIRTY:
            continue
        if not works_on(m):
            return
        _clean_entries(m, page)
        entry = memory(m)[leaf * ENTRIES + (page & SLOT_MASK)]
        kernel_store(m, leaf, page & SLOT_MASK, entry & ~DIRTY)


@kernel
def map_or_sync(m: Core, kind: int, address: int, value: int) -> None:
    """The operations on files that touch no content."""
    if kind in (MMAP_SHARED, MMAP_PRIVATE):
        flags = SHARED if kind == MMAP_SHARED else PRIVATE
        _map_file(m, address, value & _COUNT_MASK, value >> FIRST_PAGE_SHIFT, flags)
    elif kind == FILE_SYNC:
        _write_back(m, address, value)


@kernel
def _words_of(op: OpView) -> int:
    word = (op.address >> 3) & WORD_MASK
    return max(1, min(int(op.words), WORDS_PER_FRAME - word))


@kernel
def enter_call(m: Core, op: OpView, clear: bool) -> int:
    """read() or write() of a part of a page: the frame that holds it; -1, and a panic, for none."""
    pay(m, _CALL, BASE, 1)
    page = op.address >> FRAME_SHIFT
    if not 0 <= page < FILE_PAGES:
        panic(m)
        return -1
    return _page_of_file(m, page, clear)


@kernel
def write_file(m: Core, op: OpView) -> None:
    """write(): generic_perform_write."""
    words = _words_of(op)
    gfn = enter_call(m, op, words < WORDS_PER_FRAME or op.kind == FILE_REWRITE)
    if gfn < 0:
        return
    first = (op.address >> 3) & WORD_MASK
    for i in range(words):
        old = memory(m)[gfn * WORDS_PER_FRAME + (first + i)]
        kernel_store(m, gfn, first + i, old if op.kind == FILE_REWRITE else op.value + i)
    _tag_dirty(m, op.address >> FRAME_SHIFT)
