"""Puts a fake guest, a fake destination and a migration together."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from paging_core.config import GuestConfig
from paging_core.costs import CostTable
from paging_core.default_costs import DEFAULTS
from paging_core.events import Event
from paging_core.guest import Cleaned, GuestCounters
from source_host.migration import Migration
from source_host.precopy.link import Link
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.results import RoundStats
from source_host.precopy.transport import Offer
from tests.guests.fake import FakeGuest
from tests.keyed import KEY
from tests.source_host.fake_destination import FakeDestination
from wire.hosting.guests.states import GuestState, guest_lifecycle
from wire.hosting.lifecycle import Lifecycle

GIGABIT = 10**9
PLAN = Plan(link=Link(GIGABIT), zstd_level=0)
DIGEST_NS = int(DEFAULTS[Event.PAGE_DIGEST].typical)
"""What the sender takes, on the virtual clock, for a frame that is not zeros."""


@dataclass
class Notes:
    """An observer that writes everything down."""

    cleans: list[Cleaned] = field(default_factory=list)
    rounds: list[RoundStats] = field(default_factory=list)
    verdicts: list[bool] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        assert counters.accesses >= 0
        self.cleans.append(cleaned)

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        assert bandwidth_bytes_per_s >= 0
        self.rounds.append(stats)

    def verified(self, *, agreed: bool) -> None:
        self.verdicts.append(agreed)

    def changed(self, report: Report) -> None:
        self.reports.append(report)

    @property
    def states(self) -> list[str]:
        seen = [report.state.value for report in self.reports]
        return [state for i, state in enumerate(seen) if i == 0 or state != seen[i - 1]]


class Trip:
    """A migration that is ready to run."""

    def __init__(
        self,
        guest: FakeGuest,
        *,
        running: bool = True,
        costs: CostTable | None = None,
        **plan: Any,
    ) -> None:
        self.guest = guest
        self.destination = FakeDestination(guest.n_frames)
        self.life: Lifecycle[GuestState] = guest_lifecycle("vm")
        if running:
            self.life.to(GuestState.RUNNING)
        self.notes = Notes()
        config = GuestConfig(guest.n_frames * 4096, costs=costs or CostTable())
        self.migration = Migration(
            plan=replace(PLAN, **plan),
            offer=Offer("vm-1", "vm", config, KEY),
            guest_life=self.life,
            transport=self.destination,
            observers=[self.notes],
            ask_again_after_s=(0.0, 0.0),
        )

    def run(self) -> Report:
        self.migration.run(self.guest)
        return self.migration.report()

    def assert_arrived(self) -> None:
        np.testing.assert_array_equal(self.destination.frames, self.guest.memory.frames)

    def assert_guest_goes_on_here(self, state: GuestState = GuestState.RUNNING) -> None:
        """As if nothing had happened: same memory under the same writes, no tracking."""
        assert self.life.state is state
        assert not self.guest.tracking
        assert self.destination.handover is None
        before = zlib.crc32(self.guest.memory.frames.data)
        self.guest.run_accesses(10)
        if self.guest.writes:
            assert zlib.crc32(self.guest.memory.frames.data) != before


def filled(guest: FakeGuest, seed: int = 1) -> FakeGuest:
    """Every third frame zero, the others random."""
    random = np.random.default_rng(seed)
    for gfn in range(guest.n_frames):
        if gfn % 3:
            guest.memory.frames[gfn] = random.integers(0, 256, 4096, np.uint8)
    return guest
