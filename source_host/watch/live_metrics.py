"""The migrations that run at this moment, for Prometheus: one slot each.

A slot is one of the ``--max-migrations`` places that a host has. It is the label of every figure,
so there are never more series than places; ``migration_info`` says which migration has the slot,
and a query joins the two. When a migration is over its series are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from paging_core.config import GuestConfig
from paging_core.units import NS_PER_S
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.watch.outlook import outlook
from wire.hosting.metrics import Row, Shown, ShownNow, guest_family

_P = "pageferry_source_migration_"
_INFO = (
    "slot", "migration_id", "guest_id", "destination", "policy", "clock", "paging", "clean",
    "group_frames",
)  # fmt: skip
_SLOT = ("slot",)
GUESTS = guest_family("source", ("guest_id", "state", "migration_id"))
FAMILIES = (
    Shown(
        _P + "info",
        "Always 1, for each migration that runs: which one has the slot, and how it is done. "
        "There are at most --max-migrations of them, and it is gone when the migration is.",
        _INFO,
    ),
    Shown(_P + "state", "Always 1; the state that the migration is in.", (*_SLOT, "state")),
    Shown(
        _P + "started_timestamp_seconds", "When it was asked for, in seconds since 1970.", _SLOT
    ),
    Shown(_P + "memory_bytes", "Memory of the guest that it moves.", _SLOT),
    Shown(_P + "round", "The round under way, from 1; 0 before the first.", _SLOT),
    Shown(_P + "max_rounds", "Live rounds after which its policy pauses the guest.", _SLOT),
    Shown(
        _P + "round_frames", "Frames that the round under way set out to send.", _SLOT
    ),
    Shown(
        _P + "remaining_frames",
        "Frames that still have to be put on the link, as far as is known: what became dirty since "
        "the last clean is not. At most 32 MiB more are on the way.",
        _SLOT,
    ),
    Shown(_P + "dirty_frames", "Frames that the last clean found dirty.", _SLOT),
    Shown(
        _P + "dirty_bytes_per_second",
        "How fast the guest made memory dirty during the last round, whole frames, in the "
        "migration's own clock.",
        _SLOT,
    ),
    Shown(
        _P + "sent_bytes_per_second",
        "How fast memory moved in the last round, whole frames, zero and unchanged ones included: "
        "what dirty_bytes_per_second has to stay below.",
        _SLOT,
    ),
    Shown(
        _P + "bandwidth_bytes_per_second",
        "Bytes per second that crossed, as measured over the last window of 100 ms of sending.",
        _SLOT,
    ),
    Shown(
        _P + "convergence_ratio",
        "Frames that the last clean found dirty per frame that its round sent. Below 1 the debt "
        "shrinks from round to round; from 1 on it never will.",
        _SLOT,
    ),
    Shown(
        _P + "eta_seconds",
        "Until the guest is released, if the rounds to come are like the last and as many as the "
        "policy allows; an upper bound, since most policies stop when little is left. Not known "
        "before the first clean.",
        _SLOT,
    ),
    Shown(
        _P + "estimated_downtime_seconds",
        "What is owed at the measured bandwidth: about how long a pause now would last.",
        _SLOT,
    ),
    Shown(_P + "downtime_limit_seconds", "What the downtime shall stay below.", _SLOT),
    Shown(
        _P + "shadow_pool_pages",
        "Pages of the guest's shadow pool, by use, as the last clean found it. Without shadows "
        "(HAP) there are none.",
        (*_SLOT, "use"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A migration that runs, at one moment.

    Attributes:
        slot: its place, below the limit of migrations.
        migration_id: its name.
        guest_id: of the guest that it moves.
        destination: where to.
        started_s: when it was asked for, seconds since 1970.
        config: what the guest is made of.
        plan: how it is done.
        report: how far it has come.
    """

    slot: int
    migration_id: str
    guest_id: str
    destination: str
    started_s: float
    config: GuestConfig
    plan: Plan
    report: Report


def show_running(registry: CollectorRegistry, running: Callable[[], Iterable[Running]]) -> None:
    """Show the migrations that run, at every scrape.

    Args:
        registry: where.
        running: those of this moment; must not wait.
    """

    def rows() -> Iterator[Row]:
        for one in running():
            for name, labels, value in (*_who(one), *_where(one), *_heading(one)):
                if value is not None:
                    yield _P + name, (str(one.slot), *labels), value

    ShownNow(registry, FAMILIES, rows)


_Figure = tuple[str, tuple[str, ...], float | None]


def _who(one: Running) -> Iterator[_Figure]:
    tracker, plan = one.config.tracker, one.plan
    info = (
        one.migration_id, one.guest_id, one.destination, plan.policy.value, plan.clock.value,
        tracker.paging.value, tracker.clean_policy.value,
        "adaptive" if tracker.group.adaptive else str(tracker.group.frames),
    )  # fmt: skip
    yield "info", info, 1
    yield "state", (one.report.state.value,), 1
    yield "started_timestamp_seconds", (), one.started_s
    yield "memory_bytes", (), one.config.memory_bytes
    yield "max_rounds", (), plan.make_policy().max_rounds
    yield "downtime_limit_seconds", (), plan.downtime_limit_ns / NS_PER_S


def _where(one: Running) -> Iterator[_Figure]:
    report = one.report
    began = (*report.rounds, report.current) if report.current else report.rounds
    now = began[-1] if began else None
    yield "round", (), now.round if now else 0
    yield "round_frames", (), now.to_send_frames if now else None
    yield "remaining_frames", (), report.owed_frames if now else None
    yield "dirty_frames", (), report.rounds[-1].dirty_frames if report.rounds else None
    if report.shadow_pool is not None:
        used, pages = report.shadow_pool.used_pages, report.shadow_pool.pages
        yield "shadow_pool_pages", ("used",), used
        yield "shadow_pool_pages", ("free",), pages - used


def _heading(one: Running) -> Iterator[_Figure]:
    report = one.report
    seen = outlook(report, one.plan.make_policy().max_rounds, one.config.n_frames)
    measured = report.bandwidth_bytes_per_s
    yield "dirty_bytes_per_second", (), seen.dirty_bytes_per_s
    yield "sent_bytes_per_second", (), seen.sent_bytes_per_s
    yield "bandwidth_bytes_per_second", (), measured or None
    yield "convergence_ratio", (), seen.convergence
    yield "eta_seconds", (), seen.eta_s
    downtime_s = report.estimated_downtime_ns / NS_PER_S
    yield "estimated_downtime_seconds", (), downtime_s if measured else None
