"""How much memory a guest needs for what its workload maps, before it is asked to map it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.errors import GuestOutOfMemory
from paging_core.units import FRAME_BYTES, FRAME_SHIFT, format_bytes
from paging_core.workloads.ops import (
    FILE_WRITE,
    FIRST_PAGE_SHIFT,
    MMAP,
    MMAP_HUGE,
    MMAP_PRIVATE,
    MMAP_SHARED,
    Ops,
)

_LEVEL_BITS = 9
MIB = 1 << 20
_OWN_FRAMES = 64
"""Of the guest's kernel, beside the reference counts and tables that grow with memory."""
_OWN_SHARE = 256
"""One frame in so many at most: a count of 2 bytes per frame is one in 2048."""


def frames_mapped(setup: Ops) -> int:
    """Frames that a set-up takes: the pages that it maps, and their page tables.

    Pages of a file count once for the page cache, and again where a private mapping may copy them.

    Args:
        setup: maps every page once, as the set-up of a workload does.
    """
    maps = setup[np.isin(setup["kind"], (MMAP, MMAP_HUGE, MMAP_SHARED, MMAP_PRIVATE))]
    pages = maps["value"] & ((1 << FIRST_PAGE_SHIFT) - 1)
    first = maps["address"] >> FRAME_SHIFT
    last = first + pages - 1
    small = maps["kind"] != MMAP_HUGE
    tables = _spanned(first[small], last[small], 1)
    tables += _spanned(first, last, 2) + _spanned(first, last, 3)
    own = int(pages[maps["kind"] != MMAP_SHARED].sum())
    return own + tables + _frames_cached(setup)


def _frames_cached(setup: Ops) -> int:
    """Of the page cache: what is written or mapped shared, its index, and the list of mappings."""
    shared = setup[setup["kind"] == MMAP_SHARED]["value"]
    first, pages = shared >> FIRST_PAGE_SHIFT, shared & ((1 << FIRST_PAGE_SHIFT) - 1)
    written = setup[setup["kind"] == FILE_WRITE]["address"] >> FRAME_SHIFT
    spans = [np.arange(a, a + n) for a, n in zip(first, pages, strict=True)]
    cached = np.unique(np.concatenate([written, *spans]))
    return len(cached) + len(np.unique(cached >> _LEVEL_BITS)) + 2 if len(cached) else 0


def _spanned(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], level: int) -> int:
    """Tables of a level that hold an entry for any of the pages."""
    shift = level * _LEVEL_BITS
    spans = [np.arange(a, b + 1) for a, b in zip(first >> shift, last >> shift, strict=True)]
    return len(np.unique(np.concatenate(spans))) if spans else 0


def memory_for(frames: int) -> int:
    """Bytes of a guest with that many frames to map: the next power of two of MiB."""
    least = frames + frames // _OWN_SHARE + _OWN_FRAMES
    size_bytes = MIB
    while size_bytes < least * FRAME_BYTES:
        size_bytes *= 2
    return size_bytes


def check_fits(what: str, setup: Ops, free_frames: int, memory_bytes: int) -> None:
    """Refuse a set-up before a guest has run into the end of its memory.

    Args:
        what: is to be set up, for display.
        setup: see `frames_mapped`.
        free_frames: that the guest's kernel has.
        memory_bytes: of the guest.

    Raises:
        GuestOutOfMemory: it does not fit; says how much it needs.
    """
    frames = frames_mapped(setup)
    if frames > free_frames:
        enough = f"{memory_for(frames) // MIB}MiB"
        raise GuestOutOfMemory(
            f"{what} needs {format_bytes(frames * FRAME_BYTES)} with its page tables, and a guest "
            f"of {format_bytes(memory_bytes)} has {format_bytes(free_frames * FRAME_BYTES)} free; "
            f"use --memory {enough} or more"
        )
