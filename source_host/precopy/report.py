"""A migration at one moment: what is visible outside of the engine."""

from __future__ import annotations

from dataclasses import dataclass

from paging_core.errors import PageferryError
from paging_core.guest import GuestCounters, ShadowPool
from source_host.precopy.results import Downtime, RoundStats, Totals
from source_host.states import MigrationState


@dataclass(frozen=True)
class Report:
    """An immutable picture of a migration.

    Attributes:
        state: how far it has come.
        settled: no further change comes by itself: an outcome, or in doubt and asked for in
            vain (`Migration.resolve` asks again).
        rounds: those that were sent.
        current: the one under way.
        downtime: once the guest is released; None before.
        cost: what the tracking did to the guest so far; None before it started.
        verified: the destination compared all memory and agreed.
        error: what went wrong.
        memory_digest: of all memory at the hand-over (`wire.memory_digest`); 0 before.
        estimated_downtime_ns: what is owed at the measured bandwidth; 0 before it was measured.
        owed_frames: what still has to be sent, as far as is known.
        bandwidth_bytes_per_s: as it was measured last; 0 before.
        shadow_pool: as the last clean found it; None before, and without shadows.
    """

    state: MigrationState
    settled: bool
    rounds: tuple[RoundStats, ...]
    current: RoundStats | None
    totals: Totals
    downtime: Downtime | None
    cost: GuestCounters | None
    verified: bool
    error: PageferryError | None
    memory_digest: int
    estimated_downtime_ns: int
    owed_frames: int = 0
    bandwidth_bytes_per_s: int = 0
    shadow_pool: ShadowPool | None = None
