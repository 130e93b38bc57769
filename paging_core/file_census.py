"""Pages of the file in a guest that came from elsewhere: its index, its mappings, their entries.

The page cache's index and the lists of mappings are frames of the guest and may say anything. What
is demanded here is what guest_files.py and guest_mappings.py make:

- the index leads to leaves and they to frames that the kernel hands out, each once;
- the ranges of a process lie apart, below `USER_TOP`, on pages of the file that there are;
- an entry in a range maps its page of the file, as the range allows, or in a private one a page of
  its own; one that may write a shared page is of a page that is tagged dirty;
- no other entry maps a frame of the page cache.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.errors import InvalidInput
from paging_core.kernels.guest_mappings import COPIED, MAPPING_WORDS, MAPPINGS, PRIVATE, SHARED
from paging_core.kernels.state import DIRTY, GUEST_COW, PRESENT, USER, WRITABLE, Records
from paging_core.memory import Words
from paging_core.units import FRAME_SHIFT
from paging_core.workloads.ops import FILE_PAGES, USER_TOP

Frames = npt.NDArray[np.int64]
Entries = npt.NDArray[np.int64]
_FLAGS = (1 << FRAME_SHIFT) - 1
_LEAF_SHIFT = 9
_PROCESS_SHIFT = 48
"""Addresses of all processes in one order: process, then address."""


def demand(holds: bool, otherwise: str) -> None:
    """Refuse a guest of which something does not hold.

    Raises:
        InvalidInput: it does not.
    """
    if not holds:
        raise InvalidInput(f"no guest has such a memory: {otherwise}; migrate it again")


class FileCensus:
    """What a guest's kernel knows of its file.

    Attributes:
        own: frames of the index and of the lists of mappings, each once or refused.
        is_cached: by frame, whether the page cache holds it; bool.
    """

    def __init__(self, words: Words, vcpu: Records, first_frame: int) -> None:
        """Read the index and the lists.

        Raises:
            InvalidInput: they are none that a kernel makes.
        """
        self._words = words
        self._first_frame = first_frame
        self.is_cached = np.zeros(len(words), np.bool_)
        self._frame_of = np.full(FILE_PAGES, -1, np.int64)
        self._tagged = np.zeros(FILE_PAGES, np.bool_)
        lists = vcpu["mappings"]
        demand(not lists[vcpu["roots"] == 0].any(), "a process that is none maps a file")
        self.own = np.concatenate([self._read_index(int(vcpu["file_index"])), lists[lists != 0]])
        self._check_frames(self.own)
        self._read_ranges(lists)

    def _check_frames(self, frames: Frames) -> None:
        inside = (frames >= self._first_frame) & (frames < len(self._words))
        demand(bool(inside.all()), "its page cache leads out of its memory")

    def _read_index(self, root: int) -> Frames:
        if root == 0:
            return np.zeros(0, np.int64)
        self._check_frames(np.array([root]))
        tops = self._words[root]
        places = np.flatnonzero(tops)
        leaves = tops[places] >> FRAME_SHIFT
        demand(bool((tops[places] & _FLAGS == PRESENT).all()), "its page cache has no such index")
        self._check_frames(leaves)
        demand(len(np.unique(leaves)) == len(leaves), "a part of its page cache is there twice")
        for place, leaf in zip(places.tolist(), leaves.tolist(), strict=True):
            self._read_leaf(place << _LEAF_SHIFT, self._words[leaf])
        return np.append(leaves, root)

    def _read_leaf(self, first_page: int, leaf: Entries) -> None:
        slots = np.flatnonzero(leaf)
        entries = leaf[slots]
        frames = entries >> FRAME_SHIFT
        demand(
            bool((entries & _FLAGS & ~DIRTY == PRESENT).all()), "its page cache has no such index"
        )
        self._check_frames(frames)
        once = len(np.unique(frames)) == len(frames) and not self.is_cached[frames].any()
        demand(once, "a frame holds two pages of its file")
        self.is_cached[frames] = True
        self._frame_of[first_page + slots] = frames
        self._tagged[first_page + slots] = entries & DIRTY != 0

    def _read_ranges(self, lists: Frames) -> None:
        processes = np.flatnonzero(lists)
        words = self._words[lists[processes]]
        used = MAPPINGS * MAPPING_WORDS
        demand(not words[:, used:].any(), "a list of its mappings is too long")
        ranges = words[:, :used].reshape(-1, MAPPING_WORDS)
        owner = np.repeat(processes, MAPPINGS)
        there = ranges.any(axis=1)
        self._check_ranges(ranges[there])
        base = owner[there] << _PROCESS_SHIFT
        order = np.argsort(base + ranges[there, 0])
        self._starts = (base + ranges[there, 0])[order]
        self._ends = (base + ranges[there, 1])[order]
        self._pages, self._kinds = ranges[there, 2][order], ranges[there, 3][order]
        apart = (self._starts[1:] >= self._ends[:-1]).all()
        demand(bool(apart), "two of its mappings lie on each other")

    @staticmethod
    def _check_ranges(ranges: Entries) -> None:
        start, end, page, flags = ranges.T
        on_pages = (start & _FLAGS == 0) & (end & _FLAGS == 0)
        inside = (start > 0) & (start < end) & (end <= USER_TOP) & (page >= 0)
        inside &= page < FILE_PAGES
        inside &= ((end - start) >> FRAME_SHIFT) <= FILE_PAGES - page
        known = np.isin(flags, (SHARED, PRIVATE, PRIVATE | COPIED))
        demand(bool((on_pages & inside & known).all()), "one of its mappings is of no file")

    def check_entries(self, process: Frames, va: Frames, entries: Entries) -> None:
        """Hold present L1 entries against the ranges that they lie in.

        Args:
            process, va, entries: of the same shape, int64.

        Raises:
            InvalidInput: an entry is one that no kernel makes.
        """
        cached = self.is_cached[np.clip(entries >> FRAME_SHIFT, 0, len(self._words) - 1)]
        read_only = entries & (PRESENT | WRITABLE | USER | GUEST_COW) == PRESENT | USER
        key = (process << _PROCESS_SHIFT) + va
        at = np.searchsorted(self._starts, key, side="right") - 1
        inside = at >= 0
        inside[inside] = key[inside] < self._ends[at[inside]]
        demand(not (cached | read_only)[~inside].any(), "a page of its file is mapped elsewhere")
        at, of_range, cached_here = at[inside], entries[inside], cached[inside]
        pages = self._pages[at] + ((key[inside] - self._starts[at]) >> FRAME_SHIFT)
        shared = self._kinds[at] == SHARED
        right = self._frame_of[pages] == of_range >> FRAME_SHIFT
        demand(bool(right[cached_here | shared].all()), "another page is mapped")
        demand(bool((of_range & GUEST_COW == 0)[shared].all()), "a shared page is private")
        writes = of_range & WRITABLE != 0
        demand(bool(self._tagged[pages][shared & writes].all()), "a clean page can be written")
        private = of_range[~shared]
        demand(bool((private & (WRITABLE | GUEST_COW) != 0).all()), "a private page is shared")
        demand(not (cached_here & writes)[~shared].any(), "a private page can be written")
        copied = cached_here | (self._kinds[at] != PRIVATE)
        demand(bool(copied[~shared].all()), "a copy is of a range without copies")
