"""Which ranges of a process map a file: what Linux keeps as VMAs, in a frame of the guest.

A process that maps a file has one frame of them (`vcpu.mappings`), `MAPPINGS` slots of four words:
first address, address after the last, first page of the file, flags; zeros where there is none.
Ranges lie apart. There is one file. What is in no range is anonymous.

What is read here may be anything: a page of the file is used only below `FILE_PAGES`, an address
only below `USER_TOP`; where that does not hold the kernel panics.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.access import kernel_store, panic
from paging_core.kernels.arrays import memory
from paging_core.kernels.guest_frames import clear_frame, copy_frame, put_frame, take_frame
from paging_core.kernels.state import ENTRIES, OUT_OF_MEMORY, Core
from paging_core.units import FRAME_SHIFT
from paging_core.workloads.ops import FILE_PAGES, USER_TOP

MAPPINGS = 64
"""Ranges of one process."""
MAPPING_WORDS = 4
SHARED = 1
"""Flags of a range: stores go to the file (VM_SHARED)."""
PRIVATE = 2
"""Stores go to a copy."""
COPIED = 4
"""Of a private range: a page was copied (vma->anon_vma), so a fork copies its entries."""


@kernel
def _word(m: Core, frame: int, i: int, word: int) -> int:
    return memory(m)[frame * ENTRIES + (i * MAPPING_WORDS + word)]


@kernel
def _set_words(m: Core, frame: int, i: int, start: int, end: int, page: int, flags: int) -> None:
    at = i * MAPPING_WORDS
    kernel_store(m, frame, at, start)
    kernel_store(m, frame, at + 1, end)
    kernel_store(m, frame, at + 2, page)
    kernel_store(m, frame, at + 3, flags)


@kernel
def find_mapping(m: Core, process: int, va: int) -> int:
    """The range of a process that an address lies in, or -1."""
    frame = m.vcpu.mappings[process]
    if frame == 0:
        return -1
    for i in range(MAPPINGS):
        if _word(m, frame, i, 0) <= va < _word(m, frame, i, 1):
            return i
    return -1


@kernel
def mapping_flags(m: Core, process: int, i: int) -> int:
    """Flags of a range."""
    return _word(m, m.vcpu.mappings[process], i, 3)


@kernel
def mapping_start(m: Core, process: int, i: int) -> int:
    """First address of a range."""
    return _word(m, m.vcpu.mappings[process], i, 0)


@kernel
def mapping_end(m: Core, process: int, i: int) -> int:
    """Address after the last of a range."""
    return _word(m, m.vcpu.mappings[process], i, 1)


@kernel
def mapped_page(m: Core, process: int, i: int, va: int) -> int:
    """The page of the file that an address of a range maps; -1, and a panic, if there is none."""
    frame = m.vcpu.mappings[process]
    page = _word(m, frame, i, 2) + ((va - _word(m, frame, i, 0)) >> FRAME_SHIFT)
    if not 0 <= page < FILE_PAGES:
        panic(m)
        return -1
    return page


@kernel
def address_of(m: Core, process: int, i: int, page: int) -> int:
    """Where a range maps a page of the file; -1 if it does not."""
    frame = m.vcpu.mappings[process]
    va = _word(m, frame, i, 0) + ((page - _word(m, frame, i, 2)) << FRAME_SHIFT)
    inside = 0 <= _word(m, frame, i, 0) <= va < _word(m, frame, i, 1)
    return va if inside and va < USER_TOP else -1


@kernel
def note_copied(m: Core, process: int, i: int) -> None:
    """A page of a private range was copied (anon_vma_prepare)."""
    flags = mapping_flags(m, process, i)
    if flags & COPIED == 0:
        kernel_store(m, m.vcpu.mappings[process], i * MAPPING_WORDS + 3, flags | COPIED)


@kernel
def is_copied_by_fork(m: Core, process: int, va: int) -> bool:
    """vma_needs_copy (mm/memory.c): entries that a fault would fill again are left out."""
    i = find_mapping(m, process, va)
    return i < 0 or mapping_flags(m, process, i) & COPIED != 0


@kernel
def maps_file(m: Core, process: int, start: int, end: int) -> bool:
    """Whether any of a range of addresses maps a file."""
    frame = m.vcpu.mappings[process]
    if frame == 0:
        return False
    for i in range(MAPPINGS):
        if _word(m, frame, i, 0) < end and start < _word(m, frame, i, 1):
            return True
    return False


@kernel
def _free_slot(m: Core, frame: int) -> int:
    for i in range(MAPPINGS):
        if _word(m, frame, i, 1) == 0:
            return i
    if m.vcpu.out_of_memory == 0:
        m.vcpu.out_of_memory = OUT_OF_MEMORY  # ENOMEM
    return -1


@kernel
def add_mapping(m: Core, start: int, end: int, page: int, flags: int) -> None:
    """The current process maps a part of the file, where nothing else is mapped."""
    process = m.vcpu.process
    if m.vcpu.mappings[process] == 0:
        frame = take_frame(m)
        clear_frame(m, frame)
        m.vcpu.mappings[process] = frame
    i = _free_slot(m, m.vcpu.mappings[process])
    if i >= 0:
        _set_words(m, m.vcpu.mappings[process], i, start, end, page, flags)


@kernel
def _cut(m: Core, frame: int, i: int, start: int, end: int) -> None:
    """Take a range of addresses out of one that it overlaps."""
    first, last = _word(m, frame, i, 0), _word(m, frame, i, 1)
    page, flags = _word(m, frame, i, 2), _word(m, frame, i, 3)
    page_after = page + ((end - first) >> FRAME_SHIFT)
    if first < start:
        _set_words(m, frame, i, first, start, page, flags)
        if end < last:
            rest = _free_slot(m, frame)
            if rest >= 0:
                _set_words(m, frame, rest, end, last, page_after, flags)
    elif end < last:
        _set_words(m, frame, i, end, last, page_after, flags)
    else:
        _set_words(m, frame, i, 0, 0, 0, 0)


@kernel
def remove_mappings(m: Core, start: int, end: int) -> None:
    """The current process unmaps a range of addresses."""
    process = m.vcpu.process
    if not maps_file(m, process, start, end):
        return
    frame = m.vcpu.mappings[process]
    for i in range(MAPPINGS):
        if _word(m, frame, i, 0) < end and start < _word(m, frame, i, 1):
            _cut(m, frame, i, start, end)


@kernel
def copy_mappings(m: Core, parent: int, child: int) -> None:
    """A fork."""
    m.vcpu.mappings[child] = 0
    if m.vcpu.mappings[parent]:
        frame = take_frame(m)
        copy_frame(m, m.vcpu.mappings[parent], frame)
        m.vcpu.mappings[child] = frame


@kernel
def end_mappings(m: Core, process: int) -> None:
    """An exit."""
    if m.vcpu.mappings[process]:
        put_frame(m, m.vcpu.mappings[process])
        m.vcpu.mappings[process] = 0
