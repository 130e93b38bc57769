"""When a round ends, which frames it passes over, and when pre-copy stops.

Policies are pure: they see `Facts` and answer. The engine asks

* `before_round` when it is known what there is to send,
* `ends_round_early` between two batches of a round,
* `stops_after_round` when the round was sent and the log was not yet cleaned.

What a round leaves unsent stays *owed*: the engine adds it to what the next clean finds, so
no policy can lose a frame, whatever the tracker drops from its bitmap in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from paging_core.errors import BadOption
from paging_core.units import FRAME_BYTES

BATCH_FRAMES = 1024
"""Frames between two questions to a policy; MAX_BATCH_SIZE of libxc, 4 MiB."""


class PolicyName(StrEnum):
    """The policies that there are."""

    XEN = "xen"
    XEN_2009 = "xen-2009"
    QEMU = "qemu"


class Decision(Enum):
    """What comes next."""

    CONTINUE = "send a live round"
    SEND_AND_STOP = "send this round live, then pause the guest"
    STOP = "pause the guest now; what is owed goes with the last round"


@dataclass(frozen=True)
class Facts:
    """All that a policy may know.

    Attributes:
        memory_frames: frames of guest memory.
        rounds_sent: live rounds that were sent.
        total_sent_frames: by all of them.
        round_sent_frames: by the one under way, or the last.
        round_skipped_frames: passed over in it because they were dirty again.
        to_send_frames: what still has to be sent, as far as is known.
        threshold_bytes: measured bandwidth × downtime limit; 0 until it was measured.
    """

    memory_frames: int
    rounds_sent: int
    total_sent_frames: int
    round_sent_frames: int
    round_skipped_frames: int
    to_send_frames: int
    threshold_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the rest can be sent within the downtime limit (QEMU: as whole frames)."""
        return self.to_send_frames * FRAME_BYTES <= self.threshold_bytes


class Policy(Protocol):
    """When to stop and what to skip."""

    @property
    def max_rounds(self) -> int:
        """Live rounds after which it stops whatever the guest does."""

    @property
    def skips_dirty_again(self) -> bool:
        """Peek before every batch and pass over frames that are dirty already."""

    def before_round(self, facts: Facts) -> Decision:
        """Decide on a round that would send `to_send_frames`."""

    def ends_round_early(self, facts: Facts) -> bool:
        """Whether to clean now though the round has frames left."""

    def stops_after_round(self, facts: Facts) -> bool:
        """Whether to pause the guest now; what became dirty meanwhile is not known."""


@dataclass(frozen=True)
class XenPolicy:
    """libxenguest today (xg_sr_save.c: SPP_TARGET_DIRTY_COUNT 50, SPP_MAX_ITERATIONS 5).

    Asked twice a round. Before: fewer than 50 frames to send (they are sent live once
    more, then the guest is paused). After: 5 rounds. So a busy guest gets 5 live rounds
    with 4 cleans between them, and one more clean when it is paused. The bitmap of a clean
    is sent as it is.
    """

    max_rounds: int = 5
    target_dirty_frames: int = 50
    skips_dirty_again: bool = False

    def before_round(self, facts: Facts) -> Decision:
        """Fewer than 50 frames: once more, then stop."""
        few = facts.to_send_frames < self.target_dirty_frames
        return Decision.SEND_AND_STOP if few else Decision.CONTINUE

    def ends_round_early(self, facts: Facts) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def stops_after_round(self, facts: Facts) -> bool:
        """The round limit only: the dirty count is unknown here."""
        return facts.rounds_sent >= self.max_rounds


@dataclass(frozen=True)
class Xen2009Policy:
    """libxc of 2009 (xc_domain_save.c: DEF_MAX_ITERS 29, DEF_MAX_FACTOR 3).

    A peek before every batch: frames that are dirty again are skipped, they will be found by
    the next clean. After each round it stops when 29 rounds were sent, or when fewer than 50
    frames were sent and skipped, or when more than 3 × memory was sent in all. Its adaptive
    rate rule was compiled out in that tree and is left out here.
    """

    max_rounds: int = 29
    min_round_frames: int = 50
    max_factor: int = 3
    skips_dirty_again: bool = True

    def before_round(self, facts: Facts) -> Decision:  # noqa: ARG002
        """It asks after a round only."""
        return Decision.CONTINUE

    def ends_round_early(self, facts: Facts) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def stops_after_round(self, facts: Facts) -> bool:
        """Rounds, a round that was nearly idle, or too much traffic."""
        return (
            facts.rounds_sent >= self.max_rounds
            or facts.round_sent_frames + facts.round_skipped_frames < self.min_round_frames
            or facts.total_sent_frames > self.max_factor * facts.memory_frames
        )


@dataclass(frozen=True)
class QemuPolicy:
    """QEMU's iteration (migration.c, ram.c).

    A round is what QEMU sends between two bitmap syncs. It ends as soon as the rest fits
    the downtime limit at the measured bandwidth; the sync after it tells what there really
    is to send, leftovers included, and if that fits as well the guest is paused and
    all of it goes with the last round. QEMU has no round limit and may never end; here it
    ends after 30 rounds, with a downtime that misses the limit.
    """

    max_rounds: int = 30
    skips_dirty_again: bool = False

    def before_round(self, facts: Facts) -> Decision:
        """Whether the exact rest, known from a sync, fits the limit."""
        synced = facts.rounds_sent > 0
        return Decision.STOP if synced and facts.fits else Decision.CONTINUE

    def ends_round_early(self, facts: Facts) -> bool:
        """Whether the estimated rest fits the limit."""
        return facts.to_send_frames > 0 and facts.fits

    def stops_after_round(self, facts: Facts) -> bool:
        """The round limit that QEMU does not have."""
        return facts.rounds_sent >= self.max_rounds


_POLICIES: dict[PolicyName, Callable[..., Policy]] = {
    PolicyName.XEN: XenPolicy,
    PolicyName.XEN_2009: Xen2009Policy,
    PolicyName.QEMU: QemuPolicy,
}

MAX_ROUNDS = 10_000
"""More than this is not a policy but an endless migration."""


def make_policy(name: PolicyName, max_rounds: int = 0) -> Policy:
    """The policy of that name.

    Args:
        name: which one.
        max_rounds: its round limit; 0 takes the policy's own.

    Raises:
        BadOption: a round limit that cannot be.
    """
    if not 0 <= max_rounds <= MAX_ROUNDS:
        raise BadOption(f"{max_rounds} rounds is not between 0 (the policy's own) and {MAX_ROUNDS}")
    policy = _POLICIES[name]
    return policy(max_rounds=max_rounds) if max_rounds else policy()
