"""The rounds of a migration by arithmetic: what AVG and HIST share.

Only the number of dirty frames differs between them. The decisions are those of the policies
that migrations use; a frame costs the same bytes whenever it is sent. Neither model knows of
frames that are skipped because they are dirty again (`xen-2009`), and frames left over by a
round that ended early (`qemu`) are taken to be others than those that became dirty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pageferry.predict.prediction import Prediction
from paging_core.units import NS_PER_S
from source_host.precopy.link import Link
from source_host.precopy.policies import BATCH_FRAMES, Decision, Facts, Policy

Dirtied = Callable[[int, int], int]
"""Distinct frames that become dirty from one time to another, ns since round 1 began."""
Unchanged = Callable[[int, int], float]
"""How many of those hold what they held before, and cross as a digest."""
UNCHANGED_BYTES = 12
"""Of a frame that crosses as unchanged: its digest, and its share of the runs (wire/batch.py)."""


@dataclass(frozen=True)
class Setting:
    """What both models are told beside the guest's writes.

    Attributes:
        memory_frames: of the guest; all of them are sent in round 1.
        frame_bytes: what a frame costs on the link; 4096 where nothing is encoded.
        frame_digest_ns: what the sender takes to digest a frame before it is sent.
        link: what carries it.
        policy: when it ends.
        downtime_limit_ns: the goal of the qemu policy.
    """

    memory_frames: int
    frame_bytes: float
    link: Link
    policy: Policy
    downtime_limit_ns: int
    frame_digest_ns: float = 0.0

    def digest_ns(self, frames: int) -> int:
        """How long the sender digests so many frames, sent or found unchanged."""
        return round(frames * self.frame_digest_ns)

    def carry_ns(self, frames: int) -> int:
        """How long so many frames occupy the link."""
        return self.link.carry_ns(round(frames * self.frame_bytes))

    @property
    def threshold_bytes(self) -> int:
        """What the link carries within the downtime limit."""
        return self.link.bits_per_s * self.downtime_limit_ns // (8 * NS_PER_S)


class _Rounds:
    """Rounds so far."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.sent_frames: list[int] = []
        self.sent_bytes = 0
        self.to_send = setting.memory_frames
        self.unchanged = 0.0
        """Of those to send."""
        self.now_ns = 0

    def facts(self, sent: int = 0) -> Facts:
        return Facts(
            memory_frames=self.setting.memory_frames,
            rounds_sent=len(self.sent_frames),
            total_sent_frames=sum(self.sent_frames) + sent,
            round_sent_frames=self.sent_frames[-1] if self.sent_frames else 0,
            round_skipped_frames=0,
            to_send_frames=self.to_send - sent,
            threshold_bytes=self.setting.threshold_bytes,
        )

    def bytes_of(self, frames: int) -> int:
        """What so many of those to send are on the link, the unchanged ones evenly among them."""
        unchanged = self.unchanged * frames / self.to_send if self.to_send else 0.0
        return round((frames - unchanged) * self.setting.frame_bytes + unchanged * UNCHANGED_BYTES)

    def send_live(self, dirtied: Dirtied, unchanged: Unchanged) -> None:
        """A round beside the running guest, and the clean after it."""
        sent = 0
        while sent < self.to_send:
            sent = min(sent + BATCH_FRAMES, self.to_send)
            if self.setting.policy.ends_round_early(self.facts(sent)):
                break
        began_ns = self.now_ns
        on_the_link = self.bytes_of(sent)
        link = self.setting.link
        digested_ns = self.setting.digest_ns(sent)
        self.now_ns += digested_ns + link.carry_ns(on_the_link) + link.round_trip_ns
        left = self.to_send - sent
        owed = left + dirtied(began_ns, self.now_ns)
        self.unchanged *= left / self.to_send
        self.unchanged += unchanged(began_ns, self.now_ns)
        self.sent_frames.append(sent)
        self.sent_bytes += on_the_link
        self.to_send = min(owed, self.setting.memory_frames)
        self.unchanged = min(self.unchanged, self.to_send)


def _none_unchanged(from_ns: int, to_ns: int) -> float:  # noqa: ARG001
    return 0.0


def simulate(
    model: str, setting: Setting, dirtied: Dirtied, unchanged: Unchanged = _none_unchanged
) -> Prediction:
    """Rounds until the policy stops them, then the last one.

    Args:
        model: its name.
        setting: what it is told beside the guest's writes.
        dirtied: what a round leaves dirty.
        unchanged: how many of those frames are the same; none, unless it is known.
    """
    rounds, policy = _Rounds(setting), setting.policy
    while True:
        decision = policy.before_round(rounds.facts())
        if decision is Decision.STOP or not rounds.to_send:
            break
        rounds.send_live(dirtied, unchanged)
        if decision is Decision.SEND_AND_STOP or policy.stops_after_round(rounds.facts()):
            break
    # The answer to the last round, and the one to the commit.
    last_bytes = rounds.bytes_of(rounds.to_send)
    carry_ns = setting.link.carry_ns(last_bytes) + 2 * setting.link.round_trip_ns
    downtime_ns = setting.digest_ns(rounds.to_send) + carry_ns
    return Prediction(
        model=model,
        rounds=len(rounds.sent_frames) + 1,
        total_s=(rounds.now_ns + downtime_ns) / NS_PER_S,
        downtime_s=downtime_ns / NS_PER_S,
        bytes_wire=rounds.sent_bytes + last_bytes,
        guest_s=0.0,
    )
