"""A migration as OpenTelemetry spans: its phases, its rounds, and the destination's part.

Imported only where ``--otlp`` is given.
"""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from paging_core.guest import Cleaned, GuestCounters
from source_host.precopy.clock_name import ClockName
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.results import RoundStats
from source_host.precopy.transport import Metadata, Offer
from source_host.states import MigrationState
from wire.hosting.spans import as_metadata

_P = "pageferry."


class MigrationSpans:
    """Implements `source_host.precopy.observer.Observer`.

    Spans tell wall time. What the model computed on the virtual clock stands in attributes, as
    ``…_ns`` beside ``pageferry.clock``.
    """

    def __init__(self, provider: trace.TracerProvider, offer: Offer, plan: Plan) -> None:
        """The first span begins, below the call that asked for the migration."""
        self._tracer = provider.get_tracer("pageferry")
        tracker = offer.config.tracker
        self._root = self._tracer.start_span(
            "migration",
            attributes={
                f"{_P}migration.id": offer.migration_id,
                f"{_P}guest.id": offer.guest_id,
                f"{_P}guest.memory_bytes": offer.config.memory_bytes,
                f"{_P}paging": tracker.paging.value,
                f"{_P}clean": tracker.clean_policy.value,
                f"{_P}group_pages": "adaptive" if tracker.group.adaptive else tracker.group.frames,
                f"{_P}policy": plan.policy.value,
                f"{_P}clock": plan.clock.value,
            },
        )
        self._modelled = plan.clock is ClockName.VIRTUAL
        self._state = MigrationState.SETUP
        self._phase = self._child("setup")
        self._round_began_ns = time.time_ns()

    def metadata(self) -> Metadata:
        """What calls to the destination carry: their spans become part of this phase."""
        return as_metadata(self._phase)

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        """A round begins after each clean."""
        del cleaned, counters
        self._round_began_ns = time.time_ns()

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        """The round as a span that ends now."""
        span = self._tracer.start_span(
            f"round {stats.round}",
            context=trace.set_span_in_context(self._phase),
            start_time=self._round_began_ns,
            attributes={
                f"{_P}round": stats.round,
                **({f"{_P}repair": True} if stats.repair else {}),
                f"{_P}to_send_frames": stats.to_send_frames,
                f"{_P}sent_frames": stats.sent_frames,
                f"{_P}wire_bytes": stats.wire_bytes,
                f"{_P}bandwidth_bytes_per_s": bandwidth_bytes_per_s,
                self._duration("round"): stats.duration_ns,
            },
        )
        span.end()

    def verified(self, *, agreed: bool) -> None:
        """Both hosts compared all memory."""
        self._root.set_attribute(f"{_P}verified", agreed)

    def changed(self, report: Report) -> None:
        """A new state is a new phase; an outcome ends the root span, and so does IN_DOUBT.

        It may take days until an in-doubt migration is decided; who looks for the reason finds
        all spans before it. The span ``in_doubt`` follows then.
        """
        if report.state is self._state:
            return
        before, self._state = self._state, report.state
        if before is MigrationState.IN_DOUBT:
            self._phase.set_attribute(f"{_P}outcome", report.state.value)
        elif report.state is MigrationState.IN_DOUBT:
            self._phase.set_status(Status(StatusCode.ERROR, str(report.error)))
        self._phase.end()
        if report.state is MigrationState.STOP_AND_COPY:
            self._root.add_event("suspend")
        ends = report.state.is_outcome or report.state is MigrationState.IN_DOUBT
        if ends and before is not MigrationState.IN_DOUBT:
            self._end(report)
        if not report.state.is_outcome:
            self._phase = self._child(report.state.value)
            self._round_began_ns = time.time_ns()

    def _end(self, report: Report) -> None:
        root = self._root
        root.set_attribute(f"{_P}outcome", report.state.value)
        root.set_attribute(f"{_P}rounds", len(report.rounds))
        root.set_attribute(f"{_P}wire_bytes", report.totals.wire_bytes)
        if report.downtime is not None:
            root.add_event("hand-over")
            root.set_attribute(self._duration("downtime"), report.downtime.total_ns)
            root.set_attribute(self._duration("total"), report.totals.total_ns)
        if report.error is not None:
            root.set_status(Status(StatusCode.ERROR, str(report.error)))
        root.end()

    def _child(self, name: str) -> Span:
        return self._tracer.start_span(name, context=trace.set_span_in_context(self._root))

    def _duration(self, of: str) -> str:
        return f"{_P}{of}_virtual_ns" if self._modelled else f"{_P}{of}_ns"
