"""How much memory a guest needs for what its workload maps, before it is asked to map it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.errors import GuestOutOfMemory
from paging_core.units import FRAME_BYTES, FRAME_SHIFT, format_bytes
from paging_core.workloads.ops import MMAP, MMAP_HUGE, Ops

_LEVEL_BITS = 9
MIB = 1 << 20
_OWN_FRAMES = 64
"""Of the guest's kernel, beside the reference counts and tables that grow with memory."""
_OWN_SHARE = 256
"""One frame in so many at most: a count of 2 bytes per frame is one in 2048."""


def frames_mapped(setup: Ops) -> int:
    """Frames that a set-up takes: the pages that it maps, and their page tables.

    Args:
        setup: maps every page once, as the set-up of a workload does.
    """
    maps = setup[(setup["kind"] == MMAP) | (setup["kind"] == MMAP_HUGE)]
    first = maps["address"] >> FRAME_SHIFT
    last = first + maps["value"] - 1
    small = maps["kind"] == MMAP
    tables = _spanned(first[small], last[small], 1)
    tables += _spanned(first, last, 2) + _spanned(first, last, 3)
    return int(maps["value"].sum()) + tables


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
