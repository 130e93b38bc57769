"""The proof: a digest of all source memory, compared with the destination's, level by level."""

from __future__ import annotations

from paging_core.digest import NODE_DIGESTS, DigestTree
from paging_core.errors import VerificationFailed
from source_host.precopy.transport import Transport

NAMED_FRAMES = 16
"""How many differing frames are named."""


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
