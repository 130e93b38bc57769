"""A destination in this process's memory, with a switch for everything that can go wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event

import numpy as np

from paging_core.digest import FrameKey, frame_digests
from paging_core.errors import (
    IllegalTransition,
    MigrationCancelled,
    NotFound,
    PageferryError,
    VerificationFailed,
)
from paging_core.proof import Proof, Tags, state_tag
from source_host.precopy.clocks import ANY_LENGTH
from source_host.precopy.transport import Handover, Offer
from wire.batch import Batch
from wire.runs import FrameKind

HEADER_BYTES = 100
"""What a message weighs beside its payload, here: a round number to reckon with."""

Fault = PageferryError | Callable[[], None]


class FakeDestination:
    """Implements `source_host.precopy.transport.Transport`; one migration, no network.

    Attributes:
        frames: its memory of the guest.
        batches: everything that came.
        calls: names of the methods called, `send` left out.
        faults: what to do or raise when a method is called, by name; popped one by one.
        state: what the guest's own state was at the commit.
        answers: what to say of a comparison, instead of the truth.
    """

    def __init__(self, n_frames: int, max_payload_bytes: int = 1 << 20) -> None:
        self.frames = np.zeros((n_frames, 4096), np.uint8)
        self.max_payload_bytes = max_payload_bytes
        self.batches: list[Batch] = []
        self.calls: list[str] = []
        self.faults: dict[str, list[Fault]] = {}
        self.on_send: Callable[[Batch], None] = lambda _batch: None
        self.answers: Callable[[int, Sequence[int], list[int]], list[int]] | None = None
        self.offer: Offer | None = None
        self.handover: Handover | None = None
        self.aborted = False
        self.closed = False
        self.interrupted = Event()

    @property
    def peer(self) -> str:
        return "the fake destination"

    def prepare(self, offer: Offer) -> int:
        self._called("prepare")
        self.offer = offer
        return self.max_payload_bytes

    def send(self, batch: Batch) -> int:
        self._check_interrupted()
        self._fault("send")
        assert batch.sequence == len(self.batches)
        self.batches.append(batch)
        self._place(batch)
        self.on_send(batch)
        return HEADER_BYTES + len(batch.payload)

    @property
    def unacknowledged_bytes(self) -> int:
        """None: what was sent is there."""
        return 0

    @property
    def message_bytes(self) -> int:
        """Any: nothing waits behind it."""
        return ANY_LENGTH

    def drain(self) -> None:
        self._called("drain")
        self._check_interrupted()

    def begin_compare(self) -> None:
        self._called("begin_compare")

    def differing(self, level: int, nodes: Sequence[int], tags: Tags) -> list[int]:
        self._called("differing")
        own = self.proof.tags(level, nodes, self.frames)
        differing = [nodes[int(i)] for i in np.flatnonzero((own != tags).any(axis=1))]
        return differing if self.answers is None else self.answers(level, nodes, differing)

    def commit(self, handover: Handover) -> None:
        """A fault before the commit keeps it from happening, one after it loses the answer."""
        self._called("commit")
        if self.aborted:
            raise IllegalTransition("this migration was aborted")
        if handover.memory_tag != self.proof.root:
            raise VerificationFailed("another tag")
        assert handover.state_tag == state_tag(self.prepared.key, handover.state)
        self.handover = handover
        self._fault("commit answer")

    def is_committed(self) -> bool:
        self._called("is_committed")
        return self.handover is not None

    def abort(self, reason: str) -> None:
        assert reason
        self._called("abort")
        if self.handover is not None:
            raise IllegalTransition("this migration was committed")
        if self.offer is None:
            raise NotFound("no such migration")
        self.aborted = True

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed = True

    @property
    def prepared(self) -> Offer:
        assert self.offer is not None
        return self.offer

    @property
    def proof(self) -> Proof:
        return Proof(self.frames, self.prepared.key)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self._fault(name)

    def _fault(self, name: str) -> None:
        faults = self.faults.get(name)
        if not faults:
            return
        fault = faults.pop(0)
        if isinstance(fault, PageferryError):
            raise fault
        fault()

    def _check_interrupted(self) -> None:
        if self.interrupted.is_set():
            raise MigrationCancelled("interrupted")

    def _place(self, batch: Batch) -> None:
        batch.runs.check(len(self.frames))
        gfns, kinds = batch.runs.gfns(), batch.runs.kinds()
        self.frames[gfns[kinds == FrameKind.DATA]] = batch.frames
        self.frames[gfns[kinds == FrameKind.ZERO]] = 0
        unchanged = gfns[kinds == FrameKind.UNCHANGED]
        if len(unchanged):
            own = frame_digests(self.frames[unchanged], FrameKey.of(self.prepared.key))
            np.testing.assert_array_equal(own, batch.unchanged_digests)
