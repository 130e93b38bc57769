"""The migrations of this host: started, watched, cancelled, remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING

import structlog

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import (
    BadOption,
    HostStopping,
    IllegalTransition,
    LimitExceeded,
    NotFound,
)
from paging_core.guest import Cleaned, Guest, GuestCounters
from source_host.messages import filled_in, migration_status, plan_of
from source_host.migration import Migration, Resolution
from source_host.precopy.flow import NO_FLOW, Flow
from source_host.precopy.observer import Observer
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.results import RoundStats
from source_host.precopy.transport import Metadata, Offer, Transport
from source_host.states import MigrationState
from source_host.watch.flow_recorder import FlowRecorder
from source_host.watch.live_metrics import Running
from source_host.watch.metrics import Metrics
from wire.convert import guest_spec
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.hosted import HostedGuest
from wire.hosting.guests.states import GuestState
from wire.names import migration_name, new_life

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

REMEMBERED = 256
"""Ended migrations that can still be asked about."""
_STOP_S = 10.0
"""How long a shutdown waits for cancelled migrations to give their guests back."""
_LOOK_S = 0.05
"""Between two looks at whether the last migration has ended, or a host that stops needs it."""

_log = structlog.get_logger(__name__)

Connect = Callable[[str, Callable[[float], None], Callable[[], Metadata]], Transport]
"""From an address, who is told of acknowledgements, and what calls carry, to a transport."""


class HostedMigration:
    """One migration on this host, with the thread that does it and those who watch it.

    Is an `Observer` of it: it wakes the watchers, and gives or takes the guest at the end.

    Attributes:
        migration_id: its name.
        offer: what the destination is told.
        guest_life: the state of the guest that it moves.
        slot: its place among those that run.
    """

    def __init__(
        self, offer: Offer, hosted: HostedGuest, request: pb.MigrateRequest, plan: Plan, slot: int
    ) -> None:
        """Remember what was asked for; `begin` starts it."""
        self.offer = offer
        self.slot = slot
        self._plan = plan
        self._started_s = time.time()
        self.migration_id = offer.migration_id
        self.guest_life = hosted.life
        hosted.destination = request.destination
        self._hosted = hosted
        self._request = request
        self._spec: common_pb2.GuestSpec = guest_spec(hosted.guest_id, hosted.config)
        self._turn = Condition()
        self._changes = 0
        self._over = False
        self._forced: Resolution | None = None
        self._last_state = MigrationState.SETUP
        self._left: GuestState | None = None  # the guest, by the outcome: it may move on later
        self._log = _log.bind(migration_id=offer.migration_id, guest_id=hosted.guest_id)
        self._migration: Migration
        self._thread: Thread

    def begin(self, migration: Migration, guest: Guest) -> None:
        """Run it in a thread of its own."""
        self._migration = migration
        self._thread = Thread(
            target=migration.run, args=(guest,), name=self.migration_id, daemon=True
        )
        self._thread.start()

    @property
    def state(self) -> MigrationState:
        """How far it has come."""
        return self._migration.state

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens by itself."""
        return self._migration.report().settled

    @property
    def is_committing(self) -> bool:
        """Whether its commit was sent and is not answered yet."""
        return self.state is MigrationState.COMMITTING

    def running(self) -> Running | None:
        """A picture of it for the metrics; None once it is settled."""
        report = self._migration.report()
        if report.settled:
            return None
        return Running(
            slot=self.slot,
            migration_id=self.migration_id,
            guest_id=self.offer.guest_id,
            destination=self._request.destination,
            started_s=self._started_s,
            config=self.offer.config,
            plan=self._plan,
            report=report,
        )

    def status(self) -> pb.MigrationStatus:
        """A picture of it for the wire."""
        return self._status(self._migration.report())

    def watch(
        self, period_s: float, keep_going: Callable[[], bool]
    ) -> Iterator[pb.MigrationStatus]:
        """Pictures of it: now, at each change, at most every `period_s`, until it is settled."""
        while keep_going():
            with self._turn:
                seen, over = self._changes, self._over
            report = self._migration.report()
            # The end is not reported before this host has acted upon it: a client may ask for
            # the guest at once.
            if over or not report.settled:
                yield self._status(report)
            if over:
                return
            with self._turn:
                self._turn.wait_for(
                    lambda: self._changes > seen or not keep_going(),  # noqa: B023
                    period_s,
                )

    def wake(self) -> None:
        """Have those who watch see whether they shall still go on."""
        with self._turn:
            self._turn.notify_all()

    def cancel(self) -> None:
        """See `Migration.cancel`."""
        self._migration.cancel()

    def resolve(self, forced: Resolution | None = None) -> None:
        """See `Migration.resolve`."""
        if forced is not None:
            self._log.warning("an operator decides about a guest in doubt", resolution=forced.value)
        self._forced = forced
        self._migration.resolve(forced)

    def stop(self) -> None:
        """Cancel it if that can be; returns at once."""
        self._migration.stop_asking()
        with suppress(IllegalTransition):  # its commit was sent: that ends by itself
            self._migration.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait until it gave its guest back."""
        self._thread.join(max(0.0, timeout_s))

    # -- Observer ----------------------------------------------------------------------

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        """Nothing to do."""

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        """One line per round, as an operator wants to read it."""
        self._log.info(
            "round sent",
            round=stats.round,
            stop_and_copy=stats.stop_and_copy,
            frames=stats.sent_frames,
            wire_bytes=stats.wire_bytes,
            duration_ns=stats.duration_ns,
            bytes_per_s=bandwidth_bytes_per_s,
        )

    def verified(self, *, agreed: bool) -> None:
        """One line."""
        self._log.info("memory compared", agreed=agreed)

    def changed(self, report: Report) -> None:
        """Give or take the guest at the end, then wake the watchers."""
        if report.state is not self._last_state:
            self._last_state = report.state
            error = str(report.error) if report.error else None
            guest = self._hosted.life.state.value  # here: it belongs in the text of a failure
            self._log.info("migration", state=report.state.value, guest=guest, error=error)
        if report.state.is_outcome:
            self._left = self._hosted.life.state
        if report.state is MigrationState.COMPLETED:
            decided = ", as an operator decided" if self._forced is not None else ""
            self._hosted.let_go(f"moved to {self._request.destination}{decided}")
        elif report.state.is_outcome:
            crashed = self._hosted.life.state is GuestState.CRASHED
            self._hosted.release(str(report.error) if crashed else "")
        with self._turn:
            self._changes += 1
            self._over = report.settled
            self._turn.notify_all()

    def _status(self, report: Report) -> pb.MigrationStatus:
        guest = self._left or self._hosted.life.state
        return migration_status(self.migration_id, self._request, self._spec, report, guest)


class Migrations:
    """All migrations of this host, by name. Thread-safe."""

    def __init__(
        self,
        guests: Guests,
        metrics: Metrics,
        connect: Connect,
        max_migrations: int,
        flow_root: Path | None = None,
        spans: TracerProvider | None = None,
    ) -> None:
        """No migrations yet.

        Args:
            guests: that can be migrated.
            metrics: what is counted.
            connect: makes the way to a destination.
            max_migrations: most that run at a time.
            flow_root: where flows may be written; None for nowhere.
            spans: where spans go; None makes none.
        """
        self._spans = spans
        self._flow_root = flow_root
        self._guests = guests
        self._metrics = metrics
        self._connect = connect
        self._max_migrations = max_migrations
        self._lock = Lock()
        self._migrations: dict[str, HostedMigration] = {}
        self._count: dict[str, int] = {}
        self._life = new_life()
        _log.info("names of migrations carry this life of the host", life=self._life)
        self._stopping = False

    def start(self, request: pb.MigrateRequest) -> HostedMigration:
        """Start a migration; returns at once.

        Raises:
            NotFound: no such guest.
            InvalidInput: a value outside its domain.
            IllegalTransition: the guest cannot be migrated now.
            LimitExceeded: too many migrations run already.
            HostStopping: the host stops.
        """
        hosted = self._guests.get(request.guest_id)
        plan = plan_of(request)
        with self._lock:
            if self._stopping:
                raise HostStopping("this source host stops and starts no more migrations")
            slot = self._free_slot()
            migration_id = self._next_id(hosted.guest_id)
            guest = hosted.claim(migration_id, let_run=request.let_run)
            try:
                if plan.keeps_twin:
                    self._guests.check_room_for_twin(hosted)
                offer = Offer(
                    migration_id,
                    hosted.guest_id,
                    hosted.config,
                    plan.make_key(hosted.config.seed),
                    hosted.trace_digest,
                )
                entry = HostedMigration(offer, hosted, filled_in(request, plan), plan, slot)
                self._begin(plan, entry, request, guest)
            except BaseException:  # whatever it was: nothing else would give the guest back
                hosted.release()
                raise
            self._migrations[migration_id] = entry
            self._forget_oldest()
        return entry

    def _begin(
        self, plan: Plan, entry: HostedMigration, request: pb.MigrateRequest, guest: Guest
    ) -> None:
        """Make it and start it; where that fails, nothing that was opened for it stays open."""
        metrics = self._metrics.of_migration(entry.migration_id, plan)
        observers: list[Observer] = [metrics, entry]
        metadata: Callable[[], Metadata] = tuple
        with ExitStack() as undo:
            flow = self._flow(request.flow_directory)
            if isinstance(flow, FlowRecorder):
                undo.callback(flow.stop)
            if self._spans is not None:
                from source_host.watch.spans import MigrationSpans  # noqa: PLC0415 - an extra

                in_spans = MigrationSpans(self._spans, entry.offer, plan)
                observers.insert(0, in_spans)
                metadata = in_spans.metadata
            transport = self._connect(request.destination, metrics.acknowledged, metadata)
            undo.callback(transport.close)
            migration = Migration(
                plan=plan,
                offer=entry.offer,
                guest_life=entry.guest_life,
                transport=transport,
                observers=observers,
                flow=flow,
            )
            entry.begin(migration, guest)
            undo.pop_all()

    def _flow(self, directory: str) -> Flow:
        if not directory:
            return NO_FLOW
        if self._flow_root is None:
            raise BadOption("this host writes no flows; start the host with --flow-dir DIR")
        try:
            path = (self._flow_root / directory).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # such as a NUL, or links in a circle
            raise BadOption(
                f"{directory!r} is no path for a flow ({error}); name a new directory "
                f"below {self._flow_root}"
            ) from error
        if not path.is_relative_to(self._flow_root.resolve()):
            raise BadOption(f"flows of this host lie below {self._flow_root}, {path} does not")
        return FlowRecorder(path)

    def get(self, migration_id: str) -> HostedMigration:
        """The migration of that name.

        Raises:
            NotFound: there is none, or it ended too long ago.
        """
        with self._lock:
            entry = self._migrations.get(migration_id)
        if entry is None:
            raise NotFound(
                f"no migration {migration_id!r} on this host; pageferry migrations lists those "
                "that it remembers"
            )
        return entry

    def all(self) -> list[HostedMigration]:
        """Every migration that is remembered."""
        with self._lock:
            return list(self._migrations.values())

    def shut_down(self, drain_s: float, hurried: Callable[[], bool] = lambda: False) -> None:
        """Start no more; let those that run end; then cancel them, and say where each guest is.

        Args:
            drain_s: how long they may take to end by themselves.
            hurried: asked now and then; True cancels them at once.
        """
        with self._lock:
            self._stopping = True
        running = [entry for entry in self.all() if not entry.is_settled]
        if running:
            _log.info("draining", migrations=len(running), at_most_s=drain_s)
        until_s = time.monotonic() + drain_s
        while any(not entry.is_settled for entry in running):
            if time.monotonic() >= until_s or hurried():
                break
            time.sleep(_LOOK_S)
        self._cancel([entry for entry in running if not entry.is_settled])
        sent = {entry.offer.guest_id for entry in self.all() if entry.is_committing}
        for hosted in self._guests.all():
            _say_fate(hosted, commit_sent=hosted.guest_id in sent)

    def _cancel(self, running: list[HostedMigration]) -> None:
        if running:
            _log.warning("cancelling", migrations=len(running))
        for entry in running:
            entry.stop()
        until_s = time.monotonic() + _STOP_S
        for entry in running:
            entry.join(until_s - time.monotonic())

    def running(self) -> list[Running]:
        """A picture of each that is not settled."""
        return [one for entry in self.all() if (one := entry.running()) is not None]

    def _free_slot(self) -> int:
        taken = {entry.slot for entry in self._migrations.values() if not entry.is_settled}
        if len(taken) >= self._max_migrations:
            raise LimitExceeded(
                f"{len(taken)} migrations run already, this host allows {self._max_migrations}; "
                "wait for one to end, or start the host with a larger --max-migrations"
            )
        return next(slot for slot in range(self._max_migrations) if slot not in taken)

    def _next_id(self, guest_id: str) -> str:
        self._count[guest_id] = number = self._count.get(guest_id, 0) + 1
        return migration_name(guest_id, number, self._life)

    def _forget_oldest(self) -> None:
        ended = [key for key, entry in self._migrations.items() if entry.state.is_outcome]
        for key in ended[: max(0, len(self._migrations) - REMEMBERED)]:
            del self._migrations[key]


def _say_fate(hosted: HostedGuest, *, commit_sent: bool) -> None:
    """One line for each guest when the host stops: it cannot be asked for afterwards.

    A commit that was sent and not answered counts as in doubt, also before that is its state.
    """
    state = hosted.life.state
    log = _log.bind(guest_id=hosted.guest_id, state=state.value)
    if state is GuestState.MOVED:
        log.info("guest is safe elsewhere", fate=hosted.message)
    elif commit_sent or state is GuestState.IN_DOUBT:
        log.error(
            "guest in doubt",
            fate="what stands still here ends with this host; if its destination took it, it is "
            "there: look for it",
            destination=hosted.destination,
            migration_id=hosted.migration_id,
        )
    else:
        log.warning("guest ends with this host", fate="its memory is lost; boot it again")
