"""Observers of a migration while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from paging_core.guest import Cleaned, GuestCounters

if TYPE_CHECKING:
    from source_host.precopy.report import Report
    from source_host.precopy.results import RoundStats


class Observer(Protocol):
    """Told from the migration's own thread; must not raise and not wait."""

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        """The log was cleaned; `counters` are the guest's totals since tracking started."""

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        """A round was sent and acknowledged."""

    def verified(self, *, agreed: bool) -> None:
        """The destination compared all memory; what a repair corrected counts as agreed."""

    def changed(self, report: Report) -> None:
        """The migration's state or its rounds changed."""
