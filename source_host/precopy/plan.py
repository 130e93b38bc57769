"""A migration as it was asked for, checked, its defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from paging_core.errors import BadOption
from paging_core.events import Event as CostEvent
from paging_core.kinds import Choice, Duration, Flag, Whole
from paging_core.migration_key import MigrationKey
from paging_core.settings import Role, Section, setting
from paging_core.units import NS_PER_S
from source_host.precopy.clock_name import ClockName
from source_host.precopy.link import Link
from source_host.precopy.policies import Policy, PolicyName, make_policy

if TYPE_CHECKING:
    from paging_core.costs import CostTable
    from paging_core.guest import Guest
    from source_host.precopy.clocks import Clock
    from source_host.precopy.compression import CompressionLevel

MAX_DOWNTIME_LIMIT_NS = 2_000_000_000_000
"""QEMU's upper bound: 2000 s."""
DEFAULT_MAX_DOWNTIME_NS = 30_000_000_000
"""Longer than any stop-and-copy that goes well; TCP connections of the guest outlive it."""


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
        twin: an untracked twin runs the same operations; only on the virtual clock.
        max_downtime_ns: a stop-and-copy that takes longer is given up; 0 for the default.
    """

    policy: PolicyName = setting(
        "policy",
        Choice(PolicyName),
        None,
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "When the guest is paused for the rest. xen: under 50 dirty pages, or after 5 rounds. "
        "xen-2009: after 29 rounds or 3 x memory sent, and pages dirty again are skipped. "
        "qemu: when the rest fits the downtime limit.",
        shown="When a round ends, which frames it skips, when pre-copy stops.",
        otherwise="by hypervisor: xen, xen-2009, qemu",
        field_default=PolicyName.XEN,
        part="policy",
    )
    clock: ClockName = setting(
        "clock",
        Choice(ClockName),
        "virtual",
        Role.SURROUNDINGS,
        Section.LINK,
        "virtual: time is modelled, and a seed gives the same result on every machine. real: the "
        "guest runs beside the transfer, and what is shown was measured.",
        shown="Whether time was modelled or real.",
        words="{} clock",
    )
    link: Link | None = None
    downtime_limit_ns: int = setting(
        "downtime_limit_ns",
        Duration("downtime limit", "2000s", least_ns=1),
        "300ms",
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "The goal of --policy qemu; the other two have none.",
        shown="The qemu policy's goal.",
    )
    max_downtime_ns: int = setting(
        "max_downtime_ns",
        Duration("longest downtime", "2000s", least_ns=1),
        None,
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "Give a stop-and-copy up that takes longer, whatever it waits for: the guest goes on at "
        "the source.",
        shown="The guest stands still no longer: a stop-and-copy that takes longer is given up.",
        since="0.2",
        otherwise="30s; with --policy qemu twice the downtime limit, if longer",
        title="longest downtime",
        read=lambda plan, _: plan.most_downtime_ns,
        field_default=0,
    )
    suppress: bool = setting(
        "suppress",
        Flag(),
        "true",
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "Send the content of dirty pages that did not change, and not a digest.",
        shown="Dirty frames that did not change crossed as a digest.",
        title="digests",
    )
    zstd_level: int | None = setting(
        "zstd_level",
        Whole(-50, 22),
        None,
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "Compress pages: 1 is fast, 22 small, 0 off.",
        shown="zstd level that was asked for; null when it was chosen by what pays.",
        otherwise="1 where it pays",
        nullable=True,
        title="zstd",
    )
    max_rounds: int = setting(
        "max_rounds",
        Whole(0, 10_000),
        "0",
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "Most rounds beside the running guest.",
        shown="Live rounds at most.",
        otherwise="5, 29 or 30, by policy",
        read=lambda plan, _: plan.make_policy().max_rounds,
        words="at most {} rounds",
    )
    warmup_ns: int = setting(
        "warmup_ns",
        Duration("warm-up", "60min"),
        "0ms",
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "Let the guest run for so long before tracking is switched on.",
        shown="Guest time before tracking was switched on.",
        title="warm-up",
    )
    twin: bool = setting(
        "twin",
        Flag(),
        "true",
        Role.SURROUNDINGS,
        Section.MIGRATION,
        "Do without the untracked twin, which runs the same operations beside the guest to say "
        "what tracking costs it: half the time and memory, and no tracking overhead is shown.",
        shown="An untracked twin ran the same operations; never on the real clock.",
        since="0.2",
        read=lambda plan, _: plan.keeps_twin,
        title="untracked twin",
    )

    def __post_init__(self) -> None:
        if self.clock is ClockName.VIRTUAL and self.link is None:
            raise BadOption("the virtual clock needs a link; give it a rate such as 1Gbit/s")
        if not 0 < self.downtime_limit_ns <= MAX_DOWNTIME_LIMIT_NS:
            raise BadOption(
                f"a downtime limit of {self.downtime_limit_ns} ns is not between 1 ns and 2000 s"
            )
        self._check_max_downtime()
        if not 0 <= self.warmup_ns < 2**62:
            raise BadOption(f"a warm-up of {self.warmup_ns} ns cannot be")
        self.make_policy()
        self.make_compression()

    def _check_max_downtime(self) -> None:
        if not 0 <= self.max_downtime_ns <= MAX_DOWNTIME_LIMIT_NS:
            raise BadOption(
                f"a longest downtime of {self.max_downtime_ns} ns is not between 0 and 2000 s"
            )
        if self.policy is PolicyName.QEMU and self.most_downtime_ns < self.downtime_limit_ns:
            raise BadOption(
                f"a longest downtime of {self.max_downtime_ns / NS_PER_S:g} s is below the "
                f"downtime limit of {self.downtime_limit_ns / NS_PER_S:g} s that the policy aims "
                "at; raise --max-downtime or lower --downtime-limit"
            )

    @property
    def most_downtime_ns(self) -> int:
        """How long the guest may stand still: 30 s, or twice the goal of the qemu policy."""
        if self.max_downtime_ns:
            return self.max_downtime_ns
        if self.policy is PolicyName.QEMU:
            return max(DEFAULT_MAX_DOWNTIME_NS, 2 * self.downtime_limit_ns)
        return DEFAULT_MAX_DOWNTIME_NS

    @property
    def keeps_twin(self) -> bool:
        """Whether there is a twin: on the real clock it would take the guest's processor."""
        return self.twin and self.clock is ClockName.VIRTUAL

    def make_policy(self) -> Policy:
        """The policy object."""
        return make_policy(self.policy, self.max_rounds)

    def make_compression(self) -> CompressionLevel:
        """The choice of zstd levels."""
        # Here and not above, as below: the command line reads the declarations at each start.
        from source_host.precopy.compression import CompressionLevel  # noqa: PLC0415

        return CompressionLevel(self.zstd_level, modelled=self.clock is ClockName.VIRTUAL)

    def make_key(self, seed: int) -> MigrationKey:
        """The secret of one migration: drawn at random, or on the virtual clock the seed's.

        Args:
            seed: of the guest.
        """
        if self.clock is ClockName.VIRTUAL:
            return MigrationKey.of_seed(seed)
        return MigrationKey.random()

    def digest_ns(self, costs: CostTable) -> float:
        """What the sender takes to digest a frame: nothing where it does not suppress.

        Args:
            costs: the guest's cost table.
        """
        return costs.ns(CostEvent.PAGE_DIGEST) if self.suppress else 0.0

    def make_clock(self, guest: Guest, costs: CostTable, cancelled: Event | None = None) -> Clock:
        """The clock, with the guest standing still in it.

        Args:
            guest: who runs.
            costs: its cost table; the real clock measures what the sender takes.
            cancelled: ends what takes long; None for never.
        """
        from source_host.precopy.clocks import RealClock, VirtualClock  # noqa: PLC0415

        if self.clock is ClockName.REAL or self.link is None:
            return RealClock(guest, cancelled)
        return VirtualClock(guest, self.link, cancelled, self.digest_ns(costs))
