"""Ours: the migration rehearsed, without a destination.

The guest runs on the virtual clock under the very tracker that is asked about, and the
engine's own rounds, policy, log cleaning and link decide what happens; so faults, groups, false
dirties, skipped frames and the slowdown of the guest are those of the model and not a formula's.
Nothing is sent, rebuilt, checked or digested as a whole. Of a message only a sample is
compressed, and its ratio taken for the rest. What is left to cost time is the guest itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import NamedTuple

import numpy as np

from pageferry.predict.prediction import Prediction
from paging_core.costs import CostTable
from paging_core.errors import IllegalTransition
from paging_core.guest import Guest
from paging_core.memory import Frames
from paging_core.migration_key import MigrationKey
from paging_core.proof import Tags
from paging_core.units import FRAME_BYTES, NS_PER_S
from source_host.precopy.clocks import ANY_LENGTH
from source_host.precopy.encoder import Encoder
from source_host.precopy.engine import Engine
from source_host.precopy.plan import Plan
from source_host.precopy.progress import Progress
from source_host.precopy.transport import Handover, Offer
from source_host.states import MigrationState
from wire.batch import Batch, Compression
from wire.codec import encode_batch

SAMPLE_PARTS = 32
PART_FRAMES = 4
"""Of a message's content so many runs of so many frames are compressed."""
MESSAGE_BYTES = 4 << 20
"""What a destination takes at once, by default."""


_KEY = MigrationKey.of_seed(0)
"""Nothing is sent that a key would protect, so any key will do."""


class SamplingEncoder(Encoder):
    """Says of every frame what the encoder says; compresses a sample and guesses the size."""

    def _compressed(self, raw: bytes, level: int) -> tuple[bytes, Compression]:
        frames = np.frombuffer(raw, np.uint8).reshape(-1, FRAME_BYTES)
        if len(frames) <= SAMPLE_PARTS * PART_FRAMES:
            return super()._compressed(raw, level)
        starts = np.linspace(0, len(frames) - PART_FRAMES, SAMPLE_PARTS).astype(np.int64)
        sample = frames[(starts[:, None] + np.arange(PART_FRAMES)).ravel()].tobytes()
        small, compression = super()._compressed(sample, level)
        return bytes(len(raw) * len(small) // len(sample)), compression


class Nowhere:
    """Implements `source_host.precopy.transport.Transport`: weighs every message and drops it."""

    @property
    def peer(self) -> str:
        """Who is not there."""
        return "nobody"

    def prepare(self, offer: Offer) -> int:  # noqa: ARG002
        """Any guest fits."""
        return MESSAGE_BYTES

    def send(self, batch: Batch) -> int:
        """How long the message would be."""
        return len(encode_batch(batch))

    @property
    def unacknowledged_bytes(self) -> int:
        """None: what was sent is there."""
        return 0

    @property
    def message_bytes(self) -> int:
        """Any: nothing waits behind it."""
        return ANY_LENGTH

    def drain(self) -> None:
        """Nothing is under way."""

    def begin_compare(self) -> None:
        """There is nothing to compare with."""

    def differing(self, level: int, nodes: Sequence[int], tags: Tags) -> list[int]:  # noqa: ARG002
        """There is nothing to compare with."""
        return []

    def commit(self, handover: Handover) -> None:  # noqa: ARG002
        """Never.

        Raises:
            IllegalTransition: always.
        """
        raise IllegalTransition("a rehearsal hands no guest over")

    def is_committed(self) -> bool:
        """Never."""
        return False

    def abort(self, reason: str) -> None:
        """Nothing to undo."""

    def interrupt(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing to close."""


class FrameCost(NamedTuple):
    """What a frame costs on average.

    Attributes:
        link_bytes: on the link.
        digested: share of frames that the sender digests: all but those of zeros.
    """

    link_bytes: float
    digested: float


def frame_cost(frames: Frames, plan: Plan) -> FrameCost:
    """What a frame costs on average, by a sample of memory as it stands."""
    encoder = SamplingEncoder(frames, _KEY, suppress=plan.suppress)
    level = plan.make_compression().after(0)
    gfns = np.unique(np.linspace(0, len(frames) - 1, 1024).astype(np.int64))
    never_sent = np.zeros(len(gfns), np.bool_)
    encoded = encoder.encode(gfns, never_sent, 1, last=False, level=level)
    return FrameCost(len(encode_batch(encoded.batch)) / len(gfns), encoded.digested / len(gfns))


def rehearse(guest: Guest, plan: Plan, costs: CostTable) -> Prediction:
    """Let a guest go through its warm-up and its migration; it ends paused.

    Args:
        guest: who is rehearsed.
        plan: how it would be moved.
        costs: the guest's cost table, which prices the sender's work too.

    Raises:
        GuestCrashed: its kernel gave up meanwhile, as it would in the migration.
    """
    clock, progress = plan.make_clock(guest, costs), Progress("rehearsal", ())
    nobody_cancels = Event()
    clock.resume()
    clock.let_run(plan.warmup_ns)
    began_ns = guest.time_ns
    with clock.exclusive():
        guest.start_tracking()
    engine = Engine(
        plan=plan,
        guest=guest,
        key=_KEY,
        clock=clock,
        transport=Nowhere(),
        progress=progress,
        max_payload_bytes=MESSAGE_BYTES,
        cancelled=nobody_cancels,
        encoder=SamplingEncoder(guest.memory.frames, _KEY, suppress=plan.suppress),
    )
    engine.pre_copy()
    engine.pause()
    engine.send_rest()
    progress.advance(MigrationState.VERIFYING)
    progress.advance(MigrationState.COMMITTING)
    progress.complete()
    report = progress.report()
    assert report.downtime is not None  # noqa: S101 - it completed
    return Prediction(
        model="rehearsal",
        rounds=len(report.rounds),
        total_s=report.totals.total_ns / NS_PER_S,
        downtime_s=report.downtime.total_ns / NS_PER_S,
        bytes_wire=report.totals.wire_bytes,
        guest_s=(guest.time_ns - began_ns) / NS_PER_S,
    )
