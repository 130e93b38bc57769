"""The proof, this side of it: memory as it stands here, digested from end to end.

What was noted while pages came in is not used. It would prove that the right bytes
arrived, and not that they stand where the guest will look for them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from paging_core.digest import Digests, DigestTree, frame_digests
from paging_core.errors import BadOption
from paging_core.memory import Frames

_CHUNK_FRAMES = 4096
_WORKERS = min(4, os.cpu_count() or 1)


def digest_memory(frames: Frames) -> DigestTree:
    """The digest tree over memory that stands still, on a few cores.

    Args:
        frames: guest memory, uint8, shape (n_frames, 4096).
    """
    leaves: Digests = np.empty(len(frames), np.uint64)

    def digest_chunk(first: int) -> None:
        chunk = slice(first, first + _CHUNK_FRAMES)
        frame_digests(frames[chunk], leaves[chunk])

    with ThreadPoolExecutor(_WORKERS, "digest") as pool:
        list(pool.map(digest_chunk, range(0, len(frames), _CHUNK_FRAMES)))
    return DigestTree(leaves)


def differing_nodes(tree: DigestTree, level: int, first: int, theirs: Digests) -> list[int]:
    """Which of their nodes differ from ours.

    Args:
        tree: of our memory.
        level: 0 holds a digest per frame; the last one the root alone.
        first: index of their first node at that level.
        theirs: consecutive nodes from there on, uint64.

    Returns:
        Indexes at that level, ascending.

    Raises:
        BadOption: there are no such nodes.
    """
    top = len(tree.levels) - 1
    if level > top:
        raise BadOption(f"the digest tree of this guest ends at level {top}, not {level}")
    ours = tree.levels[level][first : first + len(theirs)]
    if len(ours) != len(theirs) or not len(theirs):
        raise BadOption(
            f"level {level} of the digest tree has nodes 0 to {len(tree.levels[level]) - 1}; "
            f"{len(theirs)} from {first} on are not all there"
        )
    return [first + int(i) for i in np.flatnonzero(ours != theirs)]


def is_whole(tree: DigestTree, level: int) -> bool:
    """Whether equality at this level's only node is equality of all memory."""
    return level == len(tree.levels) - 1
