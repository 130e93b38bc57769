"""Where our memory differs from what a source says about its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paging_core.errors import BadOption
from paging_core.memory import Frames
from paging_core.proof import COMPARED_NODES, TAG_BYTES, Proof


def differing_nodes(
    proof: Proof, frames: Frames, level: int, nodes: Sequence[int], theirs: bytes
) -> list[int]:
    """Which of their nodes differ from ours.

    Args:
        proof: of our memory.
        frames: that memory.
        level: 0 has a tag per frame; `proof.top` the root alone.
        nodes: indexes at that level.
        theirs: their tags, 16 bytes each.

    Returns:
        Indexes at that level, ascending.

    Raises:
        BadOption: there are no such nodes, they are not ascending, they are too many for one
            question, or there is not a tag for each.
    """
    if level > proof.top:
        raise BadOption(f"the proof of this guest ends at level {proof.top}, not {level}")
    if not 0 < len(nodes) <= COMPARED_NODES:
        raise BadOption(
            f"{len(nodes)} nodes in one question; ask about 1 to {COMPARED_NODES} at a time"
        )
    if len(theirs) != len(nodes) * TAG_BYTES:
        raise BadOption(f"{len(theirs)} bytes of tags for {len(nodes)} nodes; each has {TAG_BYTES}")
    asked = np.array(nodes, np.uint64)
    if (asked[1:] <= asked[:-1]).any() or int(asked[-1]) >= proof.n_nodes(level):
        raise BadOption(
            f"level {level} of the proof has nodes 0 to {proof.n_nodes(level) - 1}; ask about "
            "those, in ascending order"
        )
    ours = proof.tags(level, asked.tolist(), frames)
    differs = (ours != np.frombuffer(theirs, np.uint8).reshape(-1, TAG_BYTES)).any(axis=1)
    return [int(node) for node in asked[differs]]


def is_whole(proof: Proof, level: int) -> bool:
    """Whether equality at this level's only node is equality of all memory."""
    return level == proof.top
