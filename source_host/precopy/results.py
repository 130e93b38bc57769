"""What a migration measured: rounds, totals, downtime. Immutable once finished."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from paging_core.density import NOTHING, Written
from paging_core.guest import Cleaned
from paging_core.log_dirty import count
from paging_core.units import FRAME_BYTES
from wire.runs import FrameKind, FrameRuns


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where one of them is not known."""
    total = 0
    for one in counts:
        if one is None:
            return None
        total += one
    return total


def _both(one: Written | None, other: Written | None) -> Written | None:
    return None if one is None or other is None else one.plus(other)


@dataclass(frozen=True)
class RoundStats:
    """One pre-copy round, or the stop-and-copy (the last).

    Attributes:
        round: from 1.
        stop_and_copy: sent while the guest stood still.
        to_send_frames: what the round set out to send.
        data_frames, zero_frames, suppressed_frames: what crossed, by kind.
        skipped_frames: passed over because they were dirty again (xen-2009).
        raw_bytes: data frames before compression.
        wire_bytes: messages as they were put on the link.
        duration_ns: from its first frame to the destination's last acknowledgement.
        dirty_frames: found dirty by the clean that ended the round; 0 for the last round.
        falsely_dirty_frames: of those, frames that nobody had written; None where nobody knows.
        fault_count: as Xen's domctl returns it with that clean.
        clean_ns: guest-visible stall of that clean.
        written: what was really written until that clean, by the model's record of true writes;
            None where there is none.
        repair: of what the proof had found different; `stop_and_copy` as well.
    """

    round: int
    stop_and_copy: bool
    to_send_frames: int
    data_frames: int = 0
    zero_frames: int = 0
    suppressed_frames: int = 0
    skipped_frames: int = 0
    raw_bytes: int = 0
    wire_bytes: int = 0
    duration_ns: int = 0
    dirty_frames: int = 0
    falsely_dirty_frames: int | None = 0
    fault_count: int = 0
    clean_ns: int = 0
    repair: bool = False
    written: Written | None = NOTHING

    @property
    def sent_frames(self) -> int:
        """What crossed as any kind."""
        return self.data_frames + self.zero_frames + self.suppressed_frames

    def plus(self, runs: FrameRuns, wire_bytes: int) -> RoundStats:
        """The same round after a batch of these frames."""
        data_frames = runs.count(FrameKind.DATA)
        return replace(
            self,
            data_frames=self.data_frames + data_frames,
            zero_frames=self.zero_frames + runs.count(FrameKind.ZERO),
            suppressed_frames=self.suppressed_frames + runs.count(FrameKind.UNCHANGED),
            raw_bytes=self.raw_bytes + data_frames * FRAME_BYTES,
            wire_bytes=self.wire_bytes + wire_bytes,
        )

    def ended_by(self, cleaned: Cleaned) -> RoundStats:
        """The same round with what a clean after it found.

        A policy that stops right after a clean has the guest's pause clean once more; both
        belong to the round.
        """
        return replace(
            self,
            dirty_frames=self.dirty_frames + count(cleaned.dirty),
            falsely_dirty_frames=_sum([self.falsely_dirty_frames, cleaned.falsely_dirty_count]),
            fault_count=self.fault_count + cleaned.fault_count,
            clean_ns=self.clean_ns + cleaned.cost_ns,
            written=_both(self.written, cleaned.written),
        )


@dataclass(frozen=True)
class Totals:
    """Sums over all rounds.

    Attributes:
        unique_frames: distinct frames that were sent at least once.
        falsely_dirty_frames: None where nobody knows, as of a round.
        repaired_frames: sent again because the proof had found them different.
        total_ns: from the start of round 1 to the release on the destination.
    """

    sent_frames: int = 0
    unique_frames: int = 0
    data_frames: int = 0
    zero_frames: int = 0
    suppressed_frames: int = 0
    skipped_frames: int = 0
    falsely_dirty_frames: int | None = 0
    wire_bytes: int = 0
    total_ns: int = 0
    repaired_frames: int = 0

    @property
    def resent_frames(self) -> int:
        """Sent again after the first time."""
        return self.sent_frames - self.unique_frames

    @property
    def raw_bytes(self) -> int:
        """What a migration that sends every frame whole would have sent."""
        return self.sent_frames * FRAME_BYTES

    @classmethod
    def of(cls, rounds: Iterable[RoundStats], unique_frames: int, total_ns: int) -> Totals:
        """Sum up rounds."""
        done = list(rounds)
        return cls(
            sent_frames=sum(r.sent_frames for r in done),
            unique_frames=unique_frames,
            data_frames=sum(r.data_frames for r in done),
            zero_frames=sum(r.zero_frames for r in done),
            suppressed_frames=sum(r.suppressed_frames for r in done),
            skipped_frames=sum(r.skipped_frames for r in done),
            falsely_dirty_frames=_sum(r.falsely_dirty_frames for r in done),
            wire_bytes=sum(r.wire_bytes for r in done),
            total_ns=total_ns,
            repaired_frames=sum(r.sent_frames for r in done if r.repair),
        )


@dataclass(frozen=True)
class Downtime:
    """From the guest's pause on the source to its release on the destination.

    The destination releases the guest before it answers the commit, so on the real clock the
    way back of that answer is counted though the guest runs already: an upper bound.

    Attributes:
        suspend_ns: the pause and the last clean.
        last_round_ns: sending what was dirty, to the last acknowledgement.
        state_ns: capturing the guest's own state and, on the modelled link, sending it.
            On the real clock it crosses within the commit and is counted there.
        verify_ns: the proof on both hosts, its comparison, and repairs where it found any; on
            the virtual clock the repairs alone, because hypervisors do not verify.
        commit_ns: the commit and its answer.
    """

    suspend_ns: int = 0
    last_round_ns: int = 0
    state_ns: int = 0
    verify_ns: int = 0
    commit_ns: int = 0

    @property
    def total_ns(self) -> int:
        """The sum of the parts."""
        return (
            self.suspend_ns + self.last_round_ns + self.state_ns + self.verify_ns + self.commit_ns
        )
