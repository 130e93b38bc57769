"""All memory from end to end, digested on a few cores: what a proof compares.

Both hosts read what stands in memory. What either noted while pages came or went would prove
that the right bytes arrived, and not that nothing was forgotten or put in the wrong place.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np

from paging_core.digest import Digests, DigestTree, frame_digests
from paging_core.errors import MigrationCancelled
from paging_core.memory import Frames

_CHUNK_FRAMES = 4096
"""Digested between two looks at whether somebody cancelled: 16 MiB."""
_WORKERS = min(4, os.cpu_count() or 1)


def digest_memory(frames: Frames, cancelled: Event | None = None) -> DigestTree:
    """The digest tree over memory that stands still.

    Args:
        frames: guest memory, uint8, shape (n_frames, 4096).
        cancelled: ends it early when set.

    Raises:
        MigrationCancelled: `cancelled` was set meanwhile.
    """
    cancelled = cancelled or Event()
    leaves: Digests = np.empty(len(frames), np.uint64)

    def digest_chunk(first: int) -> None:
        if not cancelled.is_set():
            chunk = slice(first, first + _CHUNK_FRAMES)
            frame_digests(frames[chunk], leaves[chunk])

    with ThreadPoolExecutor(_WORKERS, "digest") as pool:
        list(pool.map(digest_chunk, range(0, len(frames), _CHUNK_FRAMES)))
    if cancelled.is_set():
        raise MigrationCancelled("cancelled while memory was compared")
    return DigestTree(leaves)
