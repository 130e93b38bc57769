"""The proof: a digest of all source memory, compared with the destination's, level by level.

The source reads its memory again from end to end while the guest stands still. What the
encoder remembers of earlier rounds would prove only that what was sent arrived, not that
nothing was forgotten.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np

from paging_core.digest import NODE_DIGESTS, Digests, DigestTree, frame_digests
from paging_core.errors import MigrationCancelled, VerificationFailed
from paging_core.memory import Frames
from source_host.transport import Transport

CHUNK_FRAMES = 4096
"""Digested between two looks at whether somebody cancelled: 16 MiB."""
NAMED_FRAMES = 16
"""How many differing frames are named."""
_WORKERS = min(4, os.cpu_count() or 1)


def digest_memory(frames: Frames, cancelled: Event) -> DigestTree:
    """The digest tree over memory that stands still.

    Raises:
        MigrationCancelled: `cancelled` was set meanwhile.
    """
    leaves: Digests = np.empty(len(frames), np.uint64)

    def digest_chunk(first: int) -> None:
        if not cancelled.is_set():
            chunk = slice(first, first + CHUNK_FRAMES)
            frame_digests(frames[chunk], leaves[chunk])

    with ThreadPoolExecutor(_WORKERS, "digest") as pool:
        list(pool.map(digest_chunk, range(0, len(frames), CHUNK_FRAMES)))
    if cancelled.is_set():
        raise MigrationCancelled("cancelled while memory was compared")
    return DigestTree(leaves)


def prove(tree: DigestTree, transport: Transport) -> None:
    """Compare all memory with the destination's.

    Raises:
        VerificationFailed: it differs; names the first frames that do.
    """
    top = len(tree.levels) - 1
    if not transport.differing(top, 0, tree.levels[top]):
        return
    gfns = tuple(_descend(tree, transport, top, 0))
    named = ", ".join(f"{gfn:#x}" for gfn in gfns) or "none that it would name"
    raise VerificationFailed(
        f"source and destination memory differ, first at gfn {named}; "
        "the guest goes on here, migrate it again",
        gfns,
    )


def _descend(tree: DigestTree, transport: Transport, level: int, node: int) -> list[int]:
    """The first differing frames under a node that differs, leftmost first."""
    if level == 0:
        return [node]
    first = node * NODE_DIGESTS
    children = tree.levels[level - 1][first : first + NODE_DIGESTS]
    found: list[int] = []
    for child in transport.differing(level - 1, first, children):
        found += _descend(tree, transport, level - 1, child)
        if len(found) >= NAMED_FRAMES:
            break
    return found[:NAMED_FRAMES]
