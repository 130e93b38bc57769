"""The proof at the source: tags of all memory, compared with the destination's level by level.

Answers that cannot be are refused. Every answer must be of the nodes that were
asked about, each once, ascending; and a node can differ only if one of its children does. So
the number of questions is bounded by the tree, whatever is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from paging_core.errors import ContractBroken, VerificationFailed
from paging_core.memory import Frames
from paging_core.proof import COMPARED_NODES, Proof
from source_host.precopy.transport import Transport

NAMED_FRAMES = 16
"""How many differing frames are named."""
REPAIRED_FRAMES = 4096
"""Most frames that are sent again while the guest stands still: 16 MiB, four batches."""


@dataclass(frozen=True)
class Difference:
    """Where the destination's memory differs.

    Attributes:
        gfns: frames that differ, ascending; not all of them unless `complete`.
        complete: these are all, and no more than `REPAIRED_FRAMES`.
    """

    gfns: tuple[int, ...]
    complete: bool

    def failure(self, *, again: bool) -> VerificationFailed:
        """What ends the migration.

        Args:
            again: it differed before, and what did was sent again.
        """
        named = ", ".join(f"{gfn:#x}" for gfn in self.gfns[:NAMED_FRAMES])
        if again:
            what = "source and destination memory still differ after a repair"
        elif self.complete:
            what = "source and destination memory differ"
        else:
            what = (
                f"source and destination memory differ in more than the {REPAIRED_FRAMES} frames "
                "that a repair sends again"
            )
        return VerificationFailed(
            f"{what}, first at gfn {named}; the guest goes on here, migrate it again",
            self.gfns[:NAMED_FRAMES],
        )


class Comparison:
    """Asks one destination about one proof."""

    def __init__(self, proof: Proof, frames: Frames, transport: Transport) -> None:
        """Nothing is asked yet.

        Args:
            proof: of our memory.
            frames: that memory, which stands still.
            transport: the way to the destination.
        """
        self._proof = proof
        self._frames = frames
        self._transport = transport

    def difference(self) -> Difference | None:
        """Where memory there differs from ours; None where it does not.

        Raises:
            ContractBroken: an answer that cannot be.
        """
        proof = self._proof
        nodes, complete = self._ask(proof.top, [0]), True
        if not nodes:
            return None
        for level in range(proof.top, 0, -1):
            if len(nodes) > REPAIRED_FRAMES:  # each has a frame at least
                nodes, complete = nodes[:NAMED_FRAMES], False
            children = [child for node in nodes for child in proof.children(level, node)]
            below = self._ask(level - 1, children)
            self._check_parents(level, nodes, below)
            nodes = below
        complete = complete and len(nodes) <= REPAIRED_FRAMES
        return Difference(tuple(nodes), complete)

    def _ask(self, level: int, nodes: Sequence[int]) -> list[int]:
        differing: list[int] = []
        for at in range(0, len(nodes), COMPARED_NODES):
            asked = nodes[at : at + COMPARED_NODES]
            tags = self._proof.tags(level, asked, self._frames)
            answer = self._transport.differing(level, asked, tags)
            self._check(level, asked, answer)
            differing += answer
        return differing

    def _check(self, level: int, asked: Sequence[int], answer: Sequence[int]) -> None:
        if len(answer) > len(asked):
            raise ContractBroken(
                f"{self._transport.peer} answers that {len(answer)} nodes of level {level} of the "
                f"proof differ, and was asked about {len(asked)}; look into that host"
            )
        if not set(answer) <= set(asked):
            raise ContractBroken(
                f"{self._transport.peer} says that nodes of level {level} of the proof differ "
                "which nobody asked about; look into that host"
            )
        if any(later <= earlier for earlier, later in pairwise(answer)):
            raise ContractBroken(
                f"{self._transport.peer} names nodes of level {level} of the proof twice or out "
                "of order; look into that host"
            )

    def _check_parents(self, level: int, nodes: Sequence[int], below: Sequence[int]) -> None:
        parents = {self._proof.parent(level - 1, child) for child in below}
        if len(parents) < len(nodes):
            node = next(node for node in nodes if node not in parents)
            raise ContractBroken(
                f"{self._transport.peer} contradicts itself: node {node} of level {level} of the "
                "proof differs, and nothing below it does; look into that host"
            )
