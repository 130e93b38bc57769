"""The source's half, written from the contract alone: batches, proof, hand-over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dest_host.incoming import Handover, Offer
from dest_host.receiver import Receiver
from paging_core.config import GuestConfig
from paging_core.memory import Frames
from paging_core.units import FRAME_BYTES
from tests.dest_host.fake_guest import FakeGuest, filled_memory
from tests.keyed import KEY, frame_digest, memory_digest, proof, state_tag
from wire.batch import Batch
from wire.runs import FrameKind, FrameRuns


def batch_of(
    frames: Frames,
    gfns: Sequence[int],
    sequence: int,
    round_number: int = 1,
    *,
    unchanged: Sequence[int] = (),
    end_of_round: bool = False,
) -> Batch:
    """What to say about these frames as they stand now."""
    kinds = [
        FrameKind.UNCHANGED if gfn in unchanged
        else FrameKind.DATA if frames[gfn].any()
        else FrameKind.ZERO
        for gfn in gfns
    ]  # fmt: skip
    chosen = [gfn for gfn, kind in zip(gfns, kinds, strict=True) if kind is FrameKind.DATA]
    payload = b"".join(frames[gfn].tobytes() for gfn in chosen)
    return Batch(
        sequence=sequence,
        round=round_number,
        runs=FrameRuns.of(np.array(gfns, np.int64), np.array(kinds, np.uint8)),
        payload=payload,
        payload_raw_bytes=len(payload),
        end_of_round=end_of_round,
        unchanged_digests=np.array(
            [frame_digest(frames[gfn].tobytes()) for gfn in gfns if gfn in unchanged], np.uint64
        ),
    )


class Source:
    """A guest on its way: what a source would say about it.

    Attributes:
        guest: it, standing still.
        offer: what Prepare announces.
    """

    def __init__(self, migration_id: str = "m-1", guest_id: str = "web", n_frames: int = 300):
        self.guest = FakeGuest(filled_memory(n_frames, seed=len(migration_id)), position=1234)
        config = GuestConfig(n_frames * FRAME_BYTES, workload="idle")
        self.offer = Offer(migration_id, guest_id, config, KEY)

    @property
    def frames(self) -> Frames:
        return self.guest.memory.frames

    @property
    def proof(self) -> list[list[bytes]]:
        return proof([frame.tobytes() for frame in self.frames])

    @property
    def root(self) -> bytes:
        return self.proof[-1][0]

    @property
    def digest(self) -> int:
        return memory_digest([frame.tobytes() for frame in self.frames])

    def batches(self, frames_each: int = 64, first_sequence: int = 0) -> Iterator[Batch]:
        """All memory as round 1."""
        starts = range(0, len(self.frames), frames_each)
        for sequence, start in enumerate(starts):
            if sequence < first_sequence:
                continue
            gfns = range(start, min(start + frames_each, len(self.frames)))
            last = start == starts[-1]
            yield batch_of(self.frames, gfns, sequence, end_of_round=last)

    def handover(self) -> Handover:
        state = self.guest.state()
        return Handover(self.root, state, state_tag(state))


def send(receiver: Receiver, source: Source) -> None:
    """All of its memory, to a receiver that is prepared."""
    for batch in source.batches():
        receiver.accept(source.offer.migration_id, batch)


def arrived(receiver: Receiver, source: Source) -> None:
    """It is announced, and all of its memory is there."""
    receiver.prepare(source.offer)
    send(receiver, source)
