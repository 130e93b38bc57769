"""A migration as it was asked for, checked, its defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass

from paging_core.errors import BadOption
from paging_core.guest import Guest
from paging_core.migration_key import MigrationKey
from source_host.precopy.clocks import Clock, ClockName, RealClock, VirtualClock
from source_host.precopy.compression import CompressionLevel
from source_host.precopy.link import Link
from source_host.precopy.policies import Policy, PolicyName, make_policy

DEFAULT_DOWNTIME_LIMIT_NS = 300_000_000
"""QEMU's downtime-limit."""
MAX_DOWNTIME_LIMIT_NS = 2_000_000_000_000
"""QEMU's upper bound: 2000 s."""


@dataclass(frozen=True)
class Plan:
    """How a guest is to be moved; one that exists can be carried out.

    Attributes:
        policy: when to stop and what to skip.
        clock: which time passes.
        link: the modelled link; None on the real clock, which measures its own.
        downtime_limit_ns: the qemu policy's goal.
        suppress: say "unchanged" for frames whose content equals what was last sent.
        zstd_level: 0 for none; None where it pays.
        max_rounds: live rounds at most; 0 for the policy's own limit.
        warmup_ns: guest time before tracking starts.
    """

    policy: PolicyName = PolicyName.XEN
    clock: ClockName = ClockName.VIRTUAL
    link: Link | None = None
    downtime_limit_ns: int = DEFAULT_DOWNTIME_LIMIT_NS
    suppress: bool = True
    zstd_level: int | None = None
    max_rounds: int = 0
    warmup_ns: int = 0

    def __post_init__(self) -> None:
        if self.clock is ClockName.VIRTUAL and self.link is None:
            raise BadOption("the virtual clock needs a link; give it a rate such as 1Gbit/s")
        if not 0 < self.downtime_limit_ns <= MAX_DOWNTIME_LIMIT_NS:
            raise BadOption(
                f"a downtime limit of {self.downtime_limit_ns} ns is not between 1 ns and 2000 s"
            )
        if not 0 <= self.warmup_ns < 2**62:
            raise BadOption(f"a warm-up of {self.warmup_ns} ns cannot be")
        self.make_policy()
        self.make_compression()

    def make_policy(self) -> Policy:
        """The policy object."""
        return make_policy(self.policy, self.max_rounds)

    def make_compression(self) -> CompressionLevel:
        """The choice of zstd levels."""
        return CompressionLevel(self.zstd_level, modelled=self.clock is ClockName.VIRTUAL)

    def make_key(self, seed: int) -> MigrationKey:
        """The secret of one migration: drawn at random, or on the virtual clock the seed's.

        Args:
            seed: of the guest.
        """
        if self.clock is ClockName.VIRTUAL:
            return MigrationKey.of_seed(seed)
        return MigrationKey.random()

    def make_clock(self, guest: Guest) -> Clock:
        """The clock, with the guest standing still in it."""
        if self.clock is ClockName.REAL or self.link is None:
            return RealClock(guest)
        return VirtualClock(guest, self.link)
