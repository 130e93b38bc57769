"""All memory as one number for comparison by users: of two guests, or of one before and after.

It says that memory is the same unless a peer is hostile: its key is known to all, so
it proves nothing. What a migration rests on is `paging_core.proof`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import xxhash

from paging_core.digest import Digests, frame_digests, public_key
from paging_core.errors import MigrationCancelled
from paging_core.memory import Frames

_CHUNK_FRAMES = 16384
"""Digested between two checks for a cancel: 64 MiB. Each look takes the interpreter
lock, which a proof beside it gives away once in 5 ms."""
_WORKERS = min(4, os.cpu_count() or 1)


def digest_memory(frames: Frames, cancelled: Event | None = None) -> int:
    """XXH3-64 of the digests of all frames under the public key, little-endian.

    Args:
        frames: guest memory that stands still, uint8, shape (n_frames, 4096).
        cancelled: ends it early when set.

    Raises:
        MigrationCancelled: `cancelled` was set meanwhile.
    """
    cancelled = cancelled or Event()
    key = public_key()
    digests: Digests = np.zeros(len(frames), np.uint64)

    def digest_chunk(first: int) -> None:
        if not cancelled.is_set():
            chunk = slice(first, first + _CHUNK_FRAMES)
            digests[chunk] = frame_digests(frames[chunk], key)

    with ThreadPoolExecutor(_WORKERS, "digest") as pool:
        list(pool.map(digest_chunk, range(0, len(frames), _CHUNK_FRAMES)))
    if cancelled.is_set():
        raise MigrationCancelled("cancelled while memory was digested")
    return xxhash.xxh3_64_intdigest(digests.astype("<u8").data)
