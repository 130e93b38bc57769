"""What is known of a migration while it goes on: the one place that its steps write to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from paging_core.errors import PageferryError, forget_frames
from paging_core.guest import Cleaned, GuestCounters, ShadowPool
from paging_core.units import FRAME_BYTES
from source_host.precopy.clocks import Clock, Lap
from source_host.precopy.observer import Observer
from source_host.precopy.report import Report
from source_host.precopy.results import Downtime, RoundStats, Totals
from source_host.precopy.rounds import Rounds, RoundSender
from source_host.states import MigrationState, migration_lifecycle

_log = structlog.get_logger(__name__)


class Progress:
    """Written by the migration's thread, read by any through `report`.

    Attributes:
        downtime: its parts as far as they are known.
        verified: the destination compared all memory and agreed.
        memory_digest: of all memory at the hand-over, for comparison by users; it proves nothing.
    """

    def __init__(self, migration_id: str, observers: Sequence[Observer]) -> None:
        """A migration that was just asked for."""
        self.downtime = Downtime()
        self.verified = False
        self.memory_digest = 0
        self._error: PageferryError | None = None
        self._life = migration_lifecycle(migration_id)
        self._observers = observers
        self._clock: Clock | None = None
        self._sender: RoundSender | None = None
        self._cost: GuestCounters | None = None
        self._shadow_pool: ShadowPool | None = None
        self._started_ns = 0
        self._commit_lap: Lap | None = None
        self._settled = False
        self._final: Report | None = None

    @property
    def state(self) -> MigrationState:
        """How far it has come."""
        return self._life.state

    def begin(self, clock: Clock, sender: RoundSender) -> None:
        """Round 1 starts now."""
        self._clock, self._sender, self._started_ns = clock, sender, clock.now_ns

    def advance(self, state: MigrationState) -> None:
        """Go to the next state and say so.

        Raises:
            IllegalTransition: not from here.
        """
        if state is MigrationState.COMMITTING and self._clock is not None:
            self._commit_lap = Lap(self._clock)
        self._life.to(state)
        if state.is_outcome:
            self._finish()
        self._changed()

    def complete(self) -> None:
        """The destination released the guest and said so: downtime is over."""
        if self._clock is not None and self._commit_lap is not None:
            self._clock.await_answer()
            self.downtime = replace(self.downtime, commit_ns=self._commit_lap.ns())
        self._error = None
        self.advance(MigrationState.COMPLETED)

    def failed(self, error: PageferryError) -> None:
        """Something went wrong; the next state says what it means."""
        self._error = forget_frames(error)

    def settle(self) -> None:
        """In doubt, and no longer asking."""
        self._settled = True
        self._changed()

    def _finish(self) -> None:
        """Keep the picture and let go of everything that holds guest memory."""
        self._settled = True
        self._final = self.report()
        self._sender = self._clock = self._commit_lap = None

    def round_sent(self, stats: RoundStats, bandwidth_bytes_per_s: int) -> None:
        """The destination has all of a round."""
        self._tell(lambda observer: observer.round_sent(stats, bandwidth_bytes_per_s))
        self._changed()

    def cleaned(self, cleaned: Cleaned, counters: GuestCounters) -> None:
        """The log was cleaned."""
        self._cost = counters
        self._shadow_pool = cleaned.shadow_pool
        self._tell(lambda observer: observer.cleaned(cleaned, counters))
        self._changed()

    def compared(self, *, agreed: bool) -> None:
        """The destination compared all memory, after a repair where it needed one."""
        self.verified = agreed
        self._tell(lambda observer: observer.verified(agreed=agreed))

    def report(self) -> Report:
        """A picture of it now."""
        # Whether it is settled before the state: a picture that says so must show how it ended.
        # Then the state: what an outcome rests on was written before it. Then what `_finish`
        # drops last.
        settled, state, sender, clock = self._settled, self.state, self._sender, self._clock
        if self._final is not None:
            return self._final
        # In this order: frames are counted as sent before they are marked as sent once.
        unique_frames = sender.ledger.unique_frames if sender else 0
        rounds = sender.rounds if sender else Rounds((), None)
        owed_frames = sender.ledger.owed_frames if sender else 0
        total_ns = clock.now_ns - self._started_ns if clock else 0
        return Report(
            state=state,
            settled=settled,
            rounds=rounds.done,
            current=rounds.current,
            totals=Totals.of(rounds.all, unique_frames, total_ns),
            downtime=self.downtime if state is MigrationState.COMPLETED else None,
            cost=self._cost,
            verified=self.verified,
            error=self._error,
            memory_digest=self.memory_digest,
            estimated_downtime_ns=sender.meter.ns_for(owed_frames * FRAME_BYTES) if sender else 0,
            owed_frames=owed_frames,
            bandwidth_bytes_per_s=sender.meter.bytes_per_s if sender else 0,
            shadow_pool=self._shadow_pool,
        )

    def _changed(self) -> None:
        report = self.report()
        self._tell(lambda observer: observer.changed(report))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        """Who looks on cannot stop what it looks at: after a commit there is no way back."""
        for observer in self._observers:
            try:
                what(observer)
            except Exception:  # noqa: BLE001 - see above
                _log.exception("an observer of a migration failed")
