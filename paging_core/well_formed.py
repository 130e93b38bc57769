"""Whether a guest that came from elsewhere is one that a guest's kernel could have made.

A guest that was handed over is walked once before it runs, so that nonsense is refused while the
guest can still go on at its source. What is checked holds on through everything that its kernel
does from there on:

- the kernel's own tables are those of `boot.Layout`, and the zero page holds zeros;
- each table is a table once, at one level, and no user mapping leads to it;
- each entry that is present leads to a frame that the kernel hands out, a superpage to an aligned
  run of them, with flags that the kernel sets, or read-only to the zero page; each that is not
  present is 0;
- what maps a file, and only that, leads to its page cache (file_census.py);
- the reference count of each frame is what the tables and the page cache say, and so is the number
  of free frames; none but a page of a file is mapped more often than there are processes.

The isolation of guests does not rest on it: kernels bound every number that they take from guest
memory themselves (guest_walk.py, guest_frames.py), for it may change at any time.

Scratch memory is some 32 MiB at a time, and time grows with the guest's memory alone, whatever it
says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.boot import KERNEL_ENTRY, Layout
from paging_core.file_census import FileCensus
from paging_core.file_census import demand as _demand
from paging_core.kernels.guest_kernel import KERNEL_SLOT, LEAF
from paging_core.kernels.state import (
    ACCESSED,
    DIRTY,
    GUEST_COW,
    PRESENT,
    SUPERPAGE,
    USER,
    WRITABLE,
    ZERO_FRAME,
    Records,
)
from paging_core.memory import GuestMemory, Words
from paging_core.units import FRAME_SHIFT

_FLAGS = (1 << FRAME_SHIFT) - 1
_SETTABLE = ACCESSED | DIRTY
"""What a walk sets, in any entry."""
_COPY_ON_WRITE = PRESENT | USER | GUEST_COW
_CLEAN_SHARED = PRESENT | USER
"""An entry of a shared mapping that was only read, or was cleaned since it was written."""
_ZERO_PAGE = ZERO_FRAME << FRAME_SHIFT | _COPY_ON_WRITE
_TABLES_AT_A_TIME = 512  # 2 MiB of entries, and some arrays as long as they
_HUGE_FRAMES = 512

Entries = npt.NDArray[np.int64]
Frames = npt.NDArray[np.int64]


def check_well_formed(memory: GuestMemory, vcpu: Records) -> None:
    """Walk all that a guest's tables map.

    Args:
        memory: all of its frames.
        vcpu: its registers, VCPU_DTYPE, shape (1,); frames in them lie inside the guest.

    Raises:
        InvalidInput: no guest looks like this; says in what.
    """
    census = _Census(memory.words, vcpu[0])
    census.check_kernel()
    census.walk()
    census.check_counts()


class _Tables(NamedTuple):
    """Page tables of one level: where they are, whose, and from which address on they map."""

    frames: Frames
    process: Frames
    start: Frames


class _Census:
    """Who uses which frame, by the guest's own tables."""

    def __init__(self, words: Words, vcpu: Records) -> None:
        self._words = words
        self._vcpu = vcpu
        self._layout = Layout(len(words))
        self._is_table = np.zeros(len(words), np.bool_)
        self._mappings = np.zeros(len(words), np.int64)
        self._files: FileCensus

    def check_kernel(self) -> None:
        """Its registers and its own tables."""
        layout, vcpu = self._layout, self._vcpu
        own = (layout.kernel_table, layout.first_frame)
        _demand((vcpu["kernel_table"], vcpu["first_frame"]) == own, "its kernel lies elsewhere")
        _demand(vcpu["alloc_hint"] >= layout.first_frame, "it hands out frames of its kernel")
        _demand(vcpu["cr3"] == vcpu["roots"][vcpu["process"]] != 0, "it runs no process")
        _demand(vcpu["out_of_memory"] == 0, "it has crashed")
        tables = self._words[layout.kernel_table : layout.root] & ~_SETTABLE
        _demand(np.array_equal(tables, layout.direct_map()), "its direct map is another one")
        _demand(not self._words[ZERO_FRAME].any(), "its zero page holds something")

    def walk(self) -> None:
        """Every table and every mapping of every process."""
        roots: Frames = self._vcpu["roots"][self._vcpu["roots"] != 0]
        _demand(bool((roots >= self._layout.root).all()), "a process is in its kernel's frames")
        self._files = FileCensus(self._words, self._vcpu, self._layout.first_frame)
        self._enter(self._files.own)
        self._enter(roots)
        l4 = self._words[roots]
        kernel = (self._layout.kernel_table << FRAME_SHIFT) | KERNEL_ENTRY
        _demand(bool((l4[:, KERNEL_SLOT] & ~_SETTABLE == kernel).all()), "its kernel is not mapped")
        _demand(not l4[:, KERNEL_SLOT + 1 :].any(), "it maps more than its kernel would")
        process = np.flatnonzero(self._vcpu["roots"])
        start = _Tables(roots, process, np.zeros(len(roots), np.int64))
        for l3 in self._below(start, l4[:, :KERNEL_SLOT], 4):
            for l2 in self._below(l3, self._words[l3.frames], 3):
                self._walk_l2(l2)

    def _walk_l2(self, l2: _Tables) -> None:
        entries = self._words[l2.frames]
        is_huge = entries & SUPERPAGE != 0
        self._count_huge(entries[is_huge])
        for l1 in self._below(l2, np.where(is_huge, 0, entries), 2):
            self._count_pages(l1)

    def _below(self, tables: _Tables, entries: Entries, level: int) -> Iterator[_Tables]:
        """The tables to which those of a level lead, some at a time."""
        which, slot = np.nonzero(entries & PRESENT)
        frames = self._tables(entries)
        start = tables.start[which] + (slot << (3 + 9 * level))
        for first in range(0, len(frames), _TABLES_AT_A_TIME):
            part = slice(first, first + _TABLES_AT_A_TIME)
            yield _Tables(frames[part], tables.process[which][part], start[part])

    def check_counts(self) -> None:
        """What the kernel wrote down about its frames is so."""
        counts = self._layout.counts(self._words)
        processes = np.count_nonzero(self._vcpu["roots"])
        is_cached = self._files.is_cached
        _demand(
            bool((self._mappings[~is_cached] <= processes).all()),
            "a frame is mapped more often than it has processes",
        )
        in_kernel = self._is_table & (self._mappings != 0) | self._is_table & is_cached
        _demand(not in_kernel.any(), "its page tables are mapped")
        uses = self._mappings + self._is_table + is_cached
        uses[: self._layout.root] = 1
        _demand(np.array_equal(counts, uses), "its reference counts are wrong")
        free = int(np.count_nonzero(counts == 0))
        _demand(self._vcpu["free_frames"] == free, "it has another number of free frames")

    def _tables(self, entries: Entries) -> Frames:
        """The tables to which entries lead."""
        tables = self._frames(_present(entries), LEAF)
        self._enter(tables)
        return tables

    def _enter(self, tables: Frames) -> None:
        once = len(np.unique(tables)) == len(tables) and not self._is_table[tables].any()
        _demand(once, "one of its page tables is there twice")
        self._is_table[tables] = True

    def _count_huge(self, entries: Entries) -> None:
        heads = self._frames(_present(entries), LEAF | SUPERPAGE, _HUGE_FRAMES)
        _demand(not (heads % _HUGE_FRAMES).any(), "one of its superpages is not aligned")
        runs = np.bincount(heads // _HUGE_FRAMES)
        self._mappings[: len(runs) * _HUGE_FRAMES] += np.repeat(runs, _HUGE_FRAMES)
        huge = np.flatnonzero(np.repeat(runs, _HUGE_FRAMES))
        _demand(not self._files.is_cached[huge].any(), "a page of its file is mapped elsewhere")

    def _count_pages(self, l1: _Tables) -> None:
        entries = self._words[l1.frames]
        which, slot = np.nonzero(entries & PRESENT)
        present = _present(entries)
        at = l1.start[which] + (slot << FRAME_SHIFT)
        zero = present & ~_SETTABLE == _ZERO_PAGE
        private = present & (WRITABLE | GUEST_COW) == GUEST_COW
        own = present & WRITABLE != 0
        for kind, flags in ((own, LEAF), (private & ~zero, _COPY_ON_WRITE)):
            np.add.at(self._mappings, self._frames(present[kind], flags), 1)
        shared = self._frames(present[~own & ~private], _CLEAN_SHARED)
        np.add.at(self._mappings, shared, 1)
        self._files.check_entries(l1.process[which], at, present)

    def _frames(self, entries: Entries, flags: int, frames_each: int = 1) -> Frames:
        """The frames to which present entries lead."""
        as_set = entries & _FLAGS & ~_SETTABLE == flags
        _demand(bool(as_set.all()), "flags of its page table entries are none that it sets")
        frames = entries >> FRAME_SHIFT
        end = len(self._words) - frames_each
        inside = (frames >= self._layout.first_frame) & (frames <= end)
        _demand(bool(inside.all()), "its page tables lead out of its memory")
        return frames


def _present(entries: Entries) -> Entries:
    is_present = entries & PRESENT != 0
    _demand(not entries[~is_present].any(), "page table entries that are not present are not 0")
    present: Entries = entries[is_present]
    return present
