"""What this host counts, for Prometheus.

Fed by migrations as they go on, never by a scrape. Labels have few, fixed values: no guest
and no migration is a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from paging_core.guest import Cleaned, GuestCounters
from paging_core.log_dirty import count
from source_host.clocks import ClockName
from source_host.report import Report
from source_host.results import Downtime, RoundStats
from source_host.states import MigrationState
from wire.metrics import DURATION_BUCKETS_S, LATENCY_BUCKETS_S

_P = "pageferry_source_"
_SLOWDOWN_BUCKETS = (1.0, 1.01, 1.03, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_NS = 1e-9
_DOWNTIME_PARTS = ("suspend", "last_round", "state", "verify", "commit")


class Metrics:
    """The counters of one source host; each `of_migration` adds to them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything in `registry`."""
        self.tracking = _Tracking(registry)
        self.transfer = _Transfer(registry)
        self.outcome = _Outcome(registry)
        self._registry = registry

    def of_migration(self, clock: ClockName) -> MigrationMetrics:
        """An observer for one migration."""
        return MigrationMetrics(self, clock)

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
            "needs a person: the destination cannot say whether it took the guest.",
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


class _Transfer:
    """What crossed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rounds = Counter(
            _P + "rounds",
            "Rounds sent, by phase: live beside the running guest, or stop_and_copy.",
            ["phase"],
            registry=registry,
        )
        self.frames = Counter(
            _P + "frames_sent",
            "Frames sent, by kind: data with their content, zero and unchanged without.",
            ["kind"],
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


class _Outcome:
    """How migrations ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.migrations = Counter(
            _P + "migrations", "Migrations that ended, by outcome.", ["outcome"], registry=registry
        )
        self.verifications = Counter(
            _P + "verifications",
            "Comparisons of all memory with the destination's, by result. Any mismatch is a bug "
            "or a broken machine; the guest then goes on here.",
            ["result"],
            registry=registry,
        )
        self.slowdown = Histogram(
            _P + "guest_slowdown_ratio",
            "Guest time with tracking over guest time without, one observation per migration; "
            "1 means that tracking was free.",
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
        for outcome in (state.value for state in MigrationState if state.is_outcome):
            self.migrations.labels(outcome)
        for result in ("match", "mismatch"):
            self.verifications.labels(result)


class MigrationMetrics:
    """Adds what one migration does; implements `source_host.observer.Observer`."""

    def __init__(self, metrics: Metrics, clock: ClockName) -> None:
        self._metrics = metrics
        self._clock = clock.value
        self._seen: GuestCounters | None = None

    def acknowledged(self, seconds: float) -> None:
        """A batch was acknowledged after so many seconds."""
        self._metrics.transfer.ack_latency.observe(seconds)

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        """Count a clean, and what the guest did since the last one."""
        tracking, seen = self._metrics.tracking, self._seen
        tracking.cleans.inc()
        tracking.clean_time.inc(cleaned.cost_ns * _NS)
        tracking.dirty.inc(count(cleaned.dirty))
        tracking.falsely_dirty.inc(cleaned.falsely_dirty_count)
        faults = _more(counters.faults, seen.faults if seen else {})
        tracking.fixups.inc(faults.pop("fixup", 0))
        faults.pop("total", None)
        for kind, more in faults.items():
            tracking.faults.labels(kind).inc(more)
        events = _more(counters.events, seen.events if seen else {})
        tracking.pages_built.inc(events.get("shadow_page_build", 0))
        tracking.pages_torn_down.inc(events.get("shadow_teardown_page", 0))
        for cause, ns in _more(counters.tracking_ns, seen.tracking_ns if seen else {}).items():
            tracking.time.labels(cause).inc(ns * _NS)
        tracking.base_time.inc((counters.base_ns - (seen.base_ns if seen else 0)) * _NS)
        self._seen = counters

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        """Count a round."""
        transfer = self._metrics.transfer
        transfer.rounds.labels("stop_and_copy" if stats.stop_and_copy else "live").inc()
        transfer.frames.labels("data").inc(stats.data_frames)
        transfer.frames.labels("zero").inc(stats.zero_frames)
        transfer.frames.labels("unchanged").inc(stats.suppressed_frames)
        transfer.skipped.inc(stats.skipped_frames)
        transfer.raw_bytes.inc(stats.raw_bytes)
        transfer.wire_bytes.inc(stats.wire_bytes)
        if bandwidth_bytes_per_s:
            transfer.bandwidth.set(bandwidth_bytes_per_s)

    def verified(self, *, agreed: bool) -> None:
        """Count a comparison."""
        result = "match" if agreed else "mismatch"
        self._metrics.outcome.verifications.labels(result).inc()

    def changed(self, report: Report) -> None:
        """Count an outcome."""
        if not report.state.is_outcome:
            return
        outcome = self._metrics.outcome
        outcome.migrations.labels(report.state.value).inc()
        if report.cost is not None:
            outcome.slowdown.observe(report.cost.slowdown)
        if report.downtime is not None:
            outcome.duration.labels(self._clock).observe(report.totals.total_ns * _NS)
            self._observe_downtime(report.downtime)

    def _observe_downtime(self, downtime: Downtime) -> None:
        outcome = self._metrics.outcome
        outcome.downtime.labels(self._clock).observe(downtime.total_ns * _NS)
        for part in _DOWNTIME_PARTS:
            part_ns: int = getattr(downtime, f"{part}_ns")
            outcome.downtime_parts.labels(self._clock, part).observe(part_ns * _NS)


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {key: value - before.get(key, 0) for key, value in now.items()}
