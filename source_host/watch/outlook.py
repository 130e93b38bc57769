"""Where a migration is heading: whether its rounds shrink, and how long it may still take.

The figures rest on the last round that is over. What one round finds dirty is what the next one
has to send, so the ratio of both is what the debt is multiplied with from round to round.
"""

from __future__ import annotations

from dataclasses import dataclass

from paging_core.units import FRAME_BYTES, NS_PER_S
from source_host.precopy.report import Report
from source_host.precopy.results import RoundStats


@dataclass(frozen=True)
class Outlook:
    """What can be said of the rounds to come.

    Attributes:
        dirty_bytes_per_s: how fast the guest made frames dirty during the last round.
        sent_bytes_per_s: how fast memory moved in it, unchanged and zero frames included.
        convergence: frames that it found dirty per frame sent; from 1 on the debt does not
            shrink.
        eta_s: until the guest is released, if all rounds to come are like it and there are as
            many as the policy allows: most policies stop earlier.
    """

    dirty_bytes_per_s: float | None
    sent_bytes_per_s: float | None
    convergence: float | None
    eta_s: float | None


def outlook(report: Report, max_rounds: int, memory_frames: int) -> Outlook:
    """What a picture of a migration promises.

    Args:
        report: the picture.
        max_rounds: live rounds after which its policy stops in any case.
        memory_frames: of the guest; no round sends more.
    """
    last = _last_live(report)
    if last is None:
        return Outlook(None, None, None, None)  # how much round 1 leaves behind is not known yet
    seconds = last.duration_ns / NS_PER_S
    convergence = last.dirty_frames / last.sent_frames
    frames = report.owed_frames + _frames_to_come(report, max_rounds, memory_frames, convergence)
    return Outlook(
        dirty_bytes_per_s=last.dirty_frames * FRAME_BYTES / seconds,
        sent_bytes_per_s=last.sent_frames * FRAME_BYTES / seconds,
        convergence=convergence,
        eta_s=frames * seconds / last.sent_frames,
    )


def _last_live(report: Report) -> RoundStats | None:
    """The last round that tells both how fast memory moves and how fast it becomes dirty."""
    for stats in reversed(report.rounds):
        if not stats.stop_and_copy and stats.sent_frames and stats.duration_ns:
            return stats
    return None


def _frames_to_come(
    report: Report, max_rounds: int, memory_frames: int, convergence: float
) -> float:
    """What the rounds after this one would send, the last one included."""
    current = report.current
    if current is not None and current.stop_and_copy:
        return 0
    number = current.round if current else len(report.rounds)
    debt: float = current.to_send_frames if current else report.owed_frames
    left, frames = max(0, max_rounds - number) + 1, 0.0
    while left and debt >= 1:
        before, debt = debt, min(debt * convergence, memory_frames)
        if debt == before:  # it neither shrinks nor grows any more
            return frames + debt * left
        frames += debt
        left -= 1
    return frames
