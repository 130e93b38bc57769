"""What this host counts, for Prometheus.

Fed by migrations as they go on, never by a scrape. Labels have few, fixed values: no guest
and no migration is a label. Which migration a sample came from stands in its exemplar, for
scrapers that speak OpenMetrics; those that run now are in `live_metrics`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from paging_core.guest import Cleaned, GuestCounters
from paging_core.guest_accounts import FIXUP, all_causes, all_faults
from paging_core.log_dirty import count
from source_host.precopy.clock_name import ClockName
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.results import Downtime, RoundStats
from source_host.states import MigrationState
from wire.hosting.metrics import DURATION_BUCKETS_S, LATENCY_BUCKETS_S

_P = "pageferry_source_"
_SLOWDOWN_BUCKETS = (1.0, 1.01, 1.03, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_NS = 1e-9
_MOMENTS = ("started", "round", "suspend", "handover")
_HANDOVERS = {
    (MigrationState.COMMITTING, MigrationState.COMPLETED): "committed",
    (MigrationState.COMMITTING, MigrationState.FAILED): "refused",
    (MigrationState.COMMITTING, MigrationState.IN_DOUBT): "in_doubt",
    (MigrationState.IN_DOUBT, MigrationState.COMPLETED): "resolved_moved",
    (MigrationState.IN_DOUBT, MigrationState.FAILED): "resolved_stayed",
}
_DOWNTIME_PARTS = ("suspend", "last_round", "state", "verify", "commit")


class Metrics:
    """The counters of one source host; each `of_migration` adds to them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything in `registry`."""
        self.tracking = _Tracking(registry)
        self.transfer = _Transfer(registry)
        self.outcome = _Outcome(registry)
        self._registry = registry

    def of_migration(self, migration_id: str, plan: Plan) -> MigrationMetrics:
        """An observer for one migration."""
        return MigrationMetrics(self, migration_id, plan)

    def watch_memory(self, reserved_bytes: Callable[[], int]) -> None:
        """Show how much memory guests take here."""
        Gauge(
            _P + "memory_reserved_bytes", "Memory of the guests on this host.",
            registry=self._registry,
        ).set_function(reserved_bytes)  # fmt: skip

    def watch_states(
        self,
        guests: Callable[[], Mapping[str, int]],
        migrations: Callable[[], Mapping[str, int]],
        states: tuple[Sequence[str], Sequence[str]],
    ) -> None:
        """Show how many guests and migrations are in each state.

        Args:
            guests: counts guests by state.
            migrations: counts migrations by state.
            states: every state of a guest, and of a migration.
        """
        self._watch("guests", "Guests on this host, by state.", guests, states[0])
        self._watch(
            "migrations_in_state",
            "Migrations that this host remembers, by state. More than a moment in in_doubt "
            "needs an operator: the destination cannot say whether it took the guest.",
            migrations,
            states[1],
        )

    def _watch(
        self, name: str, what: str, counts: Callable[[], Mapping[str, int]], states: Sequence[str]
    ) -> None:
        gauge = Gauge(_P + name, what, ["state"], registry=self._registry)
        for state in states:
            gauge.labels(state).set_function(partial(_count_of, counts, state))


def _count_of(counts: Callable[[], Mapping[str, int]], state: str) -> float:
    return counts().get(state, 0)


class _Tracking:
    """What tracking did to guests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.faults = Counter(
            _P + "guest_faults",
            "Faults that guests took while their writes were logged, by kind. read_build and "
            "write_build rebuild shadow entries after a clean; write_protect opens an entry "
            "that was read-only; p2m_violation and misconfiguration are their HAP relatives.",
            ["kind"],
            registry=registry,
        )
        self.fixups = Counter(
            _P + "guest_fixup_faults",
            "Of those faults, the ones that opened a clean frame and marked it dirty: the "
            "price of knowing what was written. Page groups make them fewer.",
            registry=registry,
        )
        self.pages_built = Counter(
            _P + "shadow_pages_built", "Shadow pages built in the fault handler.",
            registry=registry,
        )  # fmt: skip
        self.pages_torn_down = Counter(
            _P + "shadow_pages_torn_down",
            "Shadow pages dropped. Under the blow policy every clean drops all of them, and "
            "later accesses, reads too, build them again.",
            registry=registry,
        )
        self.time = Counter(
            _P + "guest_tracking_seconds",
            "Guest time lost to tracking, in the model's virtual time, by cause: fixup against "
            "rebuild is the question that page groups are about.",
            ["cause"],
            registry=registry,
        )
        self.base_time = Counter(
            _P + "guest_base_seconds",
            "Guest time that the same accesses would have taken untracked. "
            "1 + tracking / base is the slowdown.",
            registry=registry,
        )
        self.cleans = Counter(
            _P + "log_dirty_cleans", "Times that a dirty bitmap was fetched and cleared.",
            registry=registry,
        )  # fmt: skip
        self.clean_time = Counter(
            _P + "log_dirty_clean_seconds", "Guest-visible stall of those cleans, virtual time.",
            registry=registry,
        )  # fmt: skip
        self.dirty = Counter(
            _P + "dirty_frames", "Frames that cleans found dirty.", registry=registry
        )
        self.falsely_dirty = Counter(
            _P + "falsely_dirty_frames",
            "Of those, frames that nobody had written: neighbours in a page group. Known from "
            "the model, no hypervisor could tell.",
            registry=registry,
        )
        _start(self.faults, (kind for kind in all_faults() if kind != FIXUP))
        _start(self.time, all_causes())


class _Transfer:
    """What crossed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rounds = Counter(
            _P + "rounds",
            "Rounds sent, by phase: live beside the running guest, stop_and_copy, or repair of "
            "what the proof found different.",
            ["phase"],
            registry=registry,
        )
        self.frames = Counter(
            _P + "frames_sent",
            "Frames sent, by kind: data with their content, zero and unchanged without.",
            ["kind"],
            registry=registry,
        )
        self.repaired = Counter(
            _P + "repaired_frames",
            "Frames that the proof found different at the destination and that were sent again. "
            "Any of them is a bug, a broken machine, or an attack.",
            registry=registry,
        )
        self.skipped = Counter(
            _P + "frames_skipped",
            "Frames passed over because a peek showed them dirty again (policy xen-2009).",
            registry=registry,
        )
        self.raw_bytes = Counter(
            _P + "raw_bytes", "Content of data frames before compression.", registry=registry
        )
        self.wire_bytes = Counter(
            _P + "wire_bytes", "Messages with pages as they were put on the link.",
            registry=registry,
        )  # fmt: skip
        self.bandwidth = Gauge(
            _P + "bandwidth_bytes_per_second",
            "Bandwidth as the last round measured it; on the virtual clock, of the model's link.",
            registry=registry,
        )
        self.ack_latency = Histogram(
            _P + "batch_ack_seconds",
            "Wall time from handing a batch to the stream until the destination acknowledged "
            "it: the window, the network and the placing of its pages.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        _start(self.rounds, ("live", "stop_and_copy", "repair"))
        _start(self.frames, ("data", "zero", "unchanged"))


class _Outcome:
    """How migrations ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.migrations = Counter(
            _P + "migrations", "Migrations that ended, by outcome.", ["outcome"], registry=registry
        )
        self.verifications = Counter(
            _P + "verifications",
            "Proofs of all memory against the destination's, by result. A mismatch is one that "
            "no repair could correct; the guest then goes on here.",
            ["result"],
            registry=registry,
        )
        self.slowdown = Histogram(
            _P + "guest_slowdown_ratio",
            "Guest time with tracking over guest time without, one observation per migration; "
            "1 means that tracking was free. Against the untracked twin; without one, as on the "
            "real clock, by cause: 1 + tracking / base.",
            buckets=_SLOWDOWN_BUCKETS,
            registry=registry,
        )
        self.downtime = Histogram(
            _P + "downtime_seconds",
            "From the guest's pause here to its release there, for completed migrations; "
            "modelled (clock virtual) or measured (clock real).",
            ["clock"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.downtime_parts = Histogram(
            _P + "downtime_part_seconds",
            "The same downtime, split: suspend, last_round, state, verify, commit.",
            ["clock", "part"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.duration = Histogram(
            _P + "migration_seconds",
            "From the start of round 1 to the release, for completed migrations.",
            ["clock"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.handovers = Counter(
            _P + "handovers",
            "Commits that were sent, by what became of them: committed, refused by the "
            "destination, or in_doubt because no answer came. Those in doubt end as "
            "resolved_moved or resolved_stayed once the destination can be asked.",
            ["result"],
            registry=registry,
        )
        self.limit_missed = Counter(
            _P + "downtime_limit_missed",
            "Completed migrations whose downtime was longer than their downtime limit.",
            registry=registry,
        )
        self.moments = Gauge(
            _P + "last_moment_timestamp_seconds",
            "When something last happened in a migration, seconds since 1970 and 0 for never: "
            "one started, a round began, a guest was suspended, a guest was handed over.",
            ["moment"],
            registry=registry,
        )
        _start(self.moments, _MOMENTS)
        _start(self.handovers, _HANDOVERS.values())
        _start(self.migrations, (state.value for state in MigrationState if state.is_outcome))
        _start(self.verifications, ("match", "mismatch"))
        _start(self.downtime, ClockName)
        _start(self.duration, ClockName)
        for clock in ClockName:
            for part in _DOWNTIME_PARTS:
                self.downtime_parts.labels(clock, part)


def _start(metric: Counter | Gauge | Histogram, values: Iterable[str]) -> None:
    """Every series exists from the start, at 0: a rate over an absent one is no rate."""
    for value in values:
        metric.labels(value)


class MigrationMetrics:
    """Adds what one migration does; implements `source_host.precopy.observer.Observer`."""

    def __init__(self, metrics: Metrics, migration_id: str, plan: Plan) -> None:
        self._metrics = metrics
        self._clock = plan.clock.value
        self._limit_ns = plan.downtime_limit_ns
        self._who = {"migration_id": migration_id}
        self._state = MigrationState.SETUP
        self._seen: GuestCounters | None = None
        self._happened("started")

    def acknowledged(self, seconds: float) -> None:
        """A batch was acknowledged after so many seconds."""
        self._metrics.transfer.ack_latency.observe(seconds, self._who)

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        """Count a clean, and what the guest did since the last one; then a round begins."""
        tracking, seen = self._metrics.tracking, self._seen
        self._add(tracking.cleans, 1)
        self._add(tracking.clean_time, cleaned.cost_ns * _NS)
        self._add(tracking.dirty, count(cleaned.dirty))
        self._add(tracking.falsely_dirty, cleaned.falsely_dirty_count or 0)
        faults = _more(counters.faults, seen.faults if seen else {})
        self._add(tracking.fixups, faults.pop("fixup", 0))
        faults.pop("total", None)
        for kind, more in faults.items():
            self._add(tracking.faults.labels(kind), more)
        events = _more(counters.events, seen.events if seen else {})
        self._add(tracking.pages_built, events.get("shadow_page_build", 0))
        self._add(tracking.pages_torn_down, events.get("shadow_teardown_page", 0))
        for cause, ns in _more(counters.tracking_ns, seen.tracking_ns if seen else {}).items():
            self._add(tracking.time.labels(cause), ns * _NS)
        before_ns = (seen.base_ns if seen else None) or 0
        self._add(tracking.base_time, ((counters.base_ns or before_ns) - before_ns) * _NS)
        self._seen = counters
        self._happened("round")

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        """Count a round."""
        transfer = self._metrics.transfer
        self._add(transfer.rounds.labels(_phase(stats)), 1)
        self._add(transfer.frames.labels("data"), stats.data_frames)
        self._add(transfer.frames.labels("zero"), stats.zero_frames)
        self._add(transfer.frames.labels("unchanged"), stats.suppressed_frames)
        self._add(transfer.skipped, stats.skipped_frames)
        self._add(transfer.repaired, stats.sent_frames if stats.repair else 0)
        self._add(transfer.raw_bytes, stats.raw_bytes)
        self._add(transfer.wire_bytes, stats.wire_bytes)
        if bandwidth_bytes_per_s:
            transfer.bandwidth.set(bandwidth_bytes_per_s)

    def verified(self, *, agreed: bool) -> None:
        """Count a comparison."""
        result = "match" if agreed else "mismatch"
        self._add(self._metrics.outcome.verifications.labels(result), 1)

    def changed(self, report: Report) -> None:
        """Count hand-overs and an outcome."""
        before, self._state = self._state, report.state
        if before is report.state:
            return
        if report.state is MigrationState.PRE_COPY:
            self._happened("round")
        elif report.state is MigrationState.STOP_AND_COPY:
            self._happened("suspend")
        handover = _HANDOVERS.get((before, report.state))
        if handover is not None:
            self._add(self._metrics.outcome.handovers.labels(handover), 1)
        if report.state.is_outcome:
            self._ended(report)

    def _ended(self, report: Report) -> None:
        outcome = self._metrics.outcome
        self._add(outcome.migrations.labels(report.state.value), 1)
        slowdown = None if report.cost is None else _slowdown(report.cost)
        if slowdown is not None:
            outcome.slowdown.observe(slowdown, self._who)
        if report.downtime is not None:
            self._happened("handover")
            total_s = report.totals.total_ns * _NS
            outcome.duration.labels(self._clock).observe(total_s, self._who)
            self._observe_downtime(report.downtime)

    def _observe_downtime(self, downtime: Downtime) -> None:
        outcome = self._metrics.outcome
        outcome.downtime.labels(self._clock).observe(downtime.total_ns * _NS, self._who)
        if downtime.total_ns > self._limit_ns:
            self._add(outcome.limit_missed, 1)
        for part in _DOWNTIME_PARTS:
            part_ns: int = getattr(downtime, f"{part}_ns")
            parts = outcome.downtime_parts.labels(self._clock, part)
            parts.observe(part_ns * _NS, self._who)

    def _add(self, counter: Counter, more: float) -> None:
        """Count, and leave the migration's name with what it added."""
        counter.inc(more, self._who if more else None)

    def _happened(self, moment: str) -> None:
        self._metrics.outcome.moments.labels(moment).set(time.time())


def _phase(stats: RoundStats) -> str:
    if stats.repair:
        return "repair"
    return "stop_and_copy" if stats.stop_and_copy else "live"


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {key: value - before.get(key, 0) for key, value in now.items()}


def _slowdown(cost: GuestCounters) -> float | None:
    """Against the twin; without one by the modelled time of all causes; None: nobody can say."""
    if cost.slowdown is not None or cost.base_ns is None:
        return cost.slowdown
    return 1 + sum(cost.tracking_ns.values()) / cost.base_ns if cost.base_ns else 1.0
