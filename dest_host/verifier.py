"""Where our memory differs from what a source says about its own."""

from __future__ import annotations

import numpy as np

from paging_core.digest import Digests, DigestTree
from paging_core.errors import BadOption


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
