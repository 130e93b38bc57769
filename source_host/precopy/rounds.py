"""Sending one round: which frames, in what batches, and what time passes meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event

import numpy as np
import numpy.typing as npt

from paging_core.errors import MigrationCancelled
from paging_core.guest import Cleaned, DirtyWords, SendObserver
from paging_core.log_dirty import GfnArray
from paging_core.units import FRAME_BYTES
from source_host.precopy.chunks import Chunks
from source_host.precopy.clocks import Clock
from source_host.precopy.compression import OFF, CompressionLevel
from source_host.precopy.encoder import Encoder
from source_host.precopy.flow import NO_FLOW, Flow
from source_host.precopy.ledger import Ledger, take_batch
from source_host.precopy.link import BandwidthMeter
from source_host.precopy.policies import BATCH_FRAMES, Facts, Policy
from source_host.precopy.results import RoundStats
from source_host.precopy.transport import Transport

_NO_ROUND = RoundStats(0, stop_and_copy=False, to_send_frames=0)


@dataclass(frozen=True)
class Rounds:
    """The rounds of a migration at one moment.

    Attributes:
        done: those that are over: sent, and the log cleaned after them.
        current: the one under way, from its first frame to the clean that ends it.
    """

    done: tuple[RoundStats, ...]
    current: RoundStats | None

    @property
    def all(self) -> tuple[RoundStats, ...]:
        """Every round that began."""
        return (*self.done, self.current) if self.current else self.done


class RoundSender:
    """Sends what the ledger says is owed, round by round.

    Attributes:
        ledger: what is owed.
        rounds: those that are over, and the one under way; replaced as a whole, so that
            other threads never see one of them twice or not at all.
        meter: the bandwidth of the link as this sender measures it.
    """

    def __init__(
        self,
        *,
        n_frames: int,
        encoder: Encoder,
        transport: Transport,
        clock: Clock,
        policy: Policy,
        compression: CompressionLevel,
        downtime_limit_ns: int,
        max_payload_bytes: int,
        cancelled: Event,
        flow: Flow = NO_FLOW,
        send_observer: SendObserver | None = None,
        clear_chunk_frames: int = 0,
        after_message: Callable[[], None] = lambda: None,
    ) -> None:
        """Send from one guest over one transport."""
        self._flow = flow
        self._after_message = after_message
        self._send_observer = send_observer
        self._chunks = Chunks(n_frames, clear_chunk_frames)
        self.ledger = Ledger(n_frames)
        self.rounds = Rounds((), None)
        self._rounds_sent = 0
        self.meter = BandwidthMeter(clock.now_ns)
        self._sent_bytes = 0
        self._crossed_bytes = 0
        self._n_frames = n_frames
        self._encoder = encoder
        self._transport = transport
        self._clock = clock
        self._policy = policy
        self._compression = compression
        self._downtime_limit_ns = downtime_limit_ns
        self._message_frames = max(1, max_payload_bytes // FRAME_BYTES)
        self._cancelled = cancelled

    def send_round(self, *, live: bool, repair: bool = False) -> RoundStats:
        """Send a round and wait until the destination has all of it.

        Args:
            live: the guest runs meanwhile, so the policy may skip frames or end early.
            repair: what is owed is what the proof found different.

        Raises:
            MigrationCancelled: it was cancelled.
            PageferryError: what the destination or the guest had to say.
        """
        todo = self.ledger.owed_gfns()
        self._flow.moment("round_started", self._clock.now_ns, self._rounds_sent + 1, len(todo))
        self._now_at(RoundStats(self._rounds_sent + 1, not live, len(todo), repair=repair))
        start_ns = self._clock.now_ns
        self.meter.begin_round(start_ns)
        self._send_all(todo, live=live)
        self._transport.drain()
        self._clock.await_answer()
        self._measure()
        self.meter.end_round(self._clock.now_ns)
        stats = replace(self._stats, duration_ns=self._clock.now_ns - start_ns)
        self._flow.moment("round_ended", self._clock.now_ns, stats.round, stats.sent_frames)
        self._rounds_sent += 1
        if live:
            self._now_at(stats)
        else:  # nothing is cleaned after the last one
            self.rounds = Rounds((*self.rounds.done, stats), None)
        return stats

    def owe(self, cleaned: Cleaned) -> None:
        """A clean ended the round: what it found dirty has to be sent."""
        self.ledger.owe(cleaned.dirty)
        *before, last = self.rounds.all or (None,)
        if last is not None:
            self.rounds = Rounds((*before, last.ended_by(cleaned)), None)

    @property
    def round_number(self) -> int:
        """Of the last round that was sent; 0 before the first."""
        return self._rounds_sent

    def facts(self) -> Facts:
        """What a policy may know now, between rounds."""
        return self._facts(self.ledger.owed_frames)

    def _send_all(self, todo: GfnArray, *, live: bool) -> None:
        at, closed = 0, False
        self._chunks.begin()
        while at < len(todo):
            within = self._chunks.clear_for(todo, at, self._clock) if live else todo
            gfns, after = take_batch(within, at, BATCH_FRAMES, self._dirty_again(live=live))
            self._skipped(after - at - len(gfns))
            at = after
            closed = self._send_batch(gfns, last=at == len(todo))
            facts = self._facts(len(todo) - at)
            if live and self._policy.ends_round_early(facts):
                break
        if not closed:  # it ended in skipped frames, early, or before it began
            self._send_message(todo[:0], last=True)

    def _dirty_again(self, *, live: bool) -> DirtyWords | None:
        if not live or not self._policy.skips_dirty_again:
            return None
        with self._clock.exclusive() as guest:
            return guest.peek()

    def _send_batch(self, gfns: GfnArray, *, last: bool) -> bool:
        """Send a policy's batch, in parts if destination or link take no message that long.

        Returns:
            Whether it closed the round.
        """
        level = self._compression.after(self.meter.bytes_per_s)
        closed = False
        while len(gfns):
            part = gfns[: self._message_frames]
            part = part[: self._encoder.fitting(part, self._most_content_bytes())]
            gfns = gfns[len(part) :]
            closed = last and len(gfns) == 0
            self._send_message(part, last=closed, level=level)
        return closed

    def _most_content_bytes(self) -> int:
        return self._clock.message_bytes(self._transport.message_bytes)

    def _send_message(self, gfns: GfnArray, *, last: bool, level: int = OFF) -> None:
        if self._cancelled.is_set():
            raise MigrationCancelled("the migration was cancelled")
        ever_sent = self.ledger.ever_sent(gfns)
        self.ledger.settle(gfns)
        read_ns = self._clock.now_ns
        encoded = self._encoder.encode(gfns, ever_sent, self._stats.round, last=last, level=level)
        self._clock.digested(encoded.digested)
        wire_bytes = self._transport.send(encoded.batch)
        self._report_sent(gfns, encoded.changed)
        self._flow.sent(read_ns, encoded.batch, encoded.changed, wire_bytes)
        self._now_at(self._stats.plus(encoded.batch.runs, wire_bytes))
        self.ledger.sent(gfns)
        self._clock.carry(wire_bytes)
        self._sent_bytes += wire_bytes
        self._measure()
        self._after_message()

    def _measure(self) -> None:
        """Tell the meter what crossed: what was only put into the window has not."""
        on_the_way = self._clock.on_the_way(self._transport.unacknowledged_bytes)
        crossed_bytes = self._sent_bytes - on_the_way
        self.meter.add(crossed_bytes - self._crossed_bytes, self._clock.now_ns)
        self._crossed_bytes = crossed_bytes

    def _report_sent(self, gfns: GfnArray, changed: npt.NDArray[np.bool_]) -> None:
        if self._send_observer is not None and len(gfns) and not self._stats.repair:
            with self._clock.exclusive():
                self._send_observer.note_sent(gfns, changed)

    def _skipped(self, frames: int) -> None:
        if frames:
            skipped_frames = self._stats.skipped_frames + frames
            self._now_at(replace(self._stats, skipped_frames=skipped_frames))

    @property
    def _stats(self) -> RoundStats:
        """The round under way, or the last one."""
        return (self.rounds.all or (_NO_ROUND,))[-1]

    def _now_at(self, stats: RoundStats) -> None:
        self.rounds = Rounds(self.rounds.done, stats)

    def _facts(self, to_send_frames: int) -> Facts:
        return Facts(
            memory_frames=self._n_frames,
            rounds_sent=self._rounds_sent,
            total_sent_frames=sum(r.sent_frames for r in self.rounds.all),
            round_sent_frames=self._stats.sent_frames,
            round_skipped_frames=self._stats.skipped_frames,
            to_send_frames=to_send_frames,
            threshold_bytes=self.meter.bytes_in(self._downtime_limit_ns),
        )
