"""One migration from its first call to its outcome: who has the guest, whatever fails.

Until the commit the source can go on with the guest as if nothing had happened, and after
any failure it does. A commit whose answer is lost leaves the guest standing still here
until the destination says which of the two hosts has it: it never runs on both, and it is
never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from threading import Event, Lock

import structlog

from paging_core.errors import (
    ContractBroken,
    ContractMismatch,
    DowntimeExceeded,
    GuestCrashed,
    HostUnreachable,
    IllegalTransition,
    InvariantViolation,
    MigrationCancelled,
    OutcomeUnknown,
    PageferryError,
)
from paging_core.exhaustion import named_limits, ran_out
from paging_core.flow import FlowSource
from paging_core.guest import Guest
from paging_core.proof import state_tag
from source_host.precopy.clock_name import ClockName
from source_host.precopy.clocks import Clock
from source_host.precopy.engine import Engine
from source_host.precopy.flow import NO_FLOW, Flow
from source_host.precopy.observer import Observer
from source_host.precopy.plan import Plan
from source_host.precopy.progress import Progress
from source_host.precopy.report import Report
from source_host.precopy.standstill import Standstill
from source_host.precopy.transport import Handover, Offer, Transport
from source_host.states import MigrationState
from wire.hosting.guests.states import GuestState
from wire.hosting.lifecycle import Lifecycle

ASK_AGAIN_AFTER_S = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
"""Waits between questions about a commit whose answer was lost."""

_COMMIT_SENT = (MigrationState.COMMITTING, MigrationState.IN_DOUBT)

_log = structlog.get_logger(__name__)


class Resolution(StrEnum):
    """What an operator decides about a commit in doubt, where no host can be asked."""

    KEEP = "keep"
    """The destination did not take the guest: it goes on here."""
    RELEASE = "release"
    """The destination took the guest: let go of it here."""


class Migration:
    """Moves one guest over one transport.

    `run` does the work in the caller's thread; every other public method may be called
    from any thread meanwhile.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        offer: Offer,
        guest_life: Lifecycle[GuestState],
        transport: Transport,
        observers: Sequence[Observer] = (),
        flow: Flow = NO_FLOW,
        ask_again_after_s: Sequence[float] = ASK_AGAIN_AFTER_S,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            plan: how to move it.
            offer: what the destination is told about it.
            guest_life: the guest's state on this host, kept up to date here.
            transport: the way to the destination; closed here at the end.
            observers: told what happens.
            flow: takes down every fault and every frame sent; finished here at the end.
            ask_again_after_s: waits between questions about an in-doubt commit.
        """
        self._plan = plan
        self._offer = offer
        self._guest_life = guest_life
        self._was_running = guest_life.state is GuestState.RUNNING
        self._transport = transport
        self._flow = flow
        self._telling: FlowSource | None = None
        self._ask_again_after_s = ask_again_after_s
        self._progress = Progress(offer.migration_id, observers)
        self._log = _log.bind(migration_id=offer.migration_id, guest_id=offer.guest_id)
        self._clock: Clock | None = None
        self._prepared = False
        self._tracking = False
        self._cancelled = Event()
        self._commit_gate = Lock()
        self._asking = Lock()
        self._stop_asking = Event()
        self._too_long: DowntimeExceeded | None = None
        self._standstill = Standstill(plan, self._stood_too_long)

    @property
    def state(self) -> MigrationState:
        """How far it has come."""
        return self._progress.state

    def report(self) -> Report:
        """A picture of it now."""
        return self._progress.report()

    def run(self, guest: Guest) -> None:
        """Migrate; returns when it is settled. Raises nothing: the report has the error.

        Args:
            guest: to move; nothing else touches it until the outcome.
        """
        try:
            self._migrate(guest)
        except PageferryError as error:
            self._deal_with(error)
        except Exception as error:  # noqa: BLE001 - the guest must not stay in between
            self._deal_with(self._named(error))
        finally:
            self._standstill.end()
            if self._clock is not None:
                self._clock.close()
            self._release()

    def cancel(self) -> None:
        """Stop before commit; the guest goes on here. Returns at once.

        Raises:
            IllegalTransition: the commit was sent already, or it has ended otherwise.
        """
        with self._commit_gate:
            state = self.state
            if state is MigrationState.CANCELLED:
                return
            if state.is_outcome or state in _COMMIT_SENT:
                raise IllegalTransition(
                    f"migration {self._offer.migration_id!r} is {state}; "
                    "it can be cancelled only before its commit"
                )
            self._cancelled.set()
        self._transport.interrupt()

    def resolve(self, forced: Resolution | None = None) -> None:
        """Ask the destination how an in-doubt commit ended, and act on the answer.

        Args:
            forced: what to do if no answer can be had. An answer counts for more: a guest that
                the destination says it has is not kept, nor one that it never took released.

        Raises:
            IllegalTransition: the migration is not in doubt, or the destination's answer is the
                opposite of what is forced; then it is in doubt still and can be resolved by that.
            HostUnreachable, WrongHost, OutcomeUnknown: no answer, or none to rely on, and
                nothing is forced; still in doubt.
        """
        with self._asking:
            if self.state is not MigrationState.IN_DOUBT:
                raise IllegalTransition(
                    f"migration {self._offer.migration_id!r} is {self.state}, not in doubt; "
                    "there is nothing to resolve"
                )
            if self._is_theirs(forced):
                self._complete()
            else:
                self._take_back(forced)
            self._release()

    def _is_theirs(self, forced: Resolution | None) -> bool:
        """Whether the guest is the destination's: as it says, or as an operator decides."""
        try:
            theirs = self._destination_has_it()
        except PageferryError as error:
            if forced is None:
                raise
            self._log.warning("forced", resolution=forced.value, because=str(error))
            return forced is Resolution.RELEASE
        if forced is not None and theirs is not (forced is Resolution.RELEASE):
            raise IllegalTransition(_CONTRADICTED[forced])
        return theirs

    def _take_back(self, forced: Resolution | None) -> None:
        """Go on with the guest here, as the destination or an operator said."""
        self._prepared = False  # it was told to forget the guest and answered, or cannot be told
        self._guest_life.to(GuestState.PAUSED)
        decided = "; an operator decided that" if forced is not None else " and"
        self._give_up(
            OutcomeUnknown(
                f"the answer to the commit was lost{decided} the destination did not take "
                "the guest; it goes on here, migrate it again"
            )
        )
        if forced is not None:
            self._warn_if_twice()

    def _warn_if_twice(self) -> None:
        """If the destination can be reached after all, it is told; its refusal comes too late."""
        try:
            self._transport.abort("an operator decided that the guest stays at its source")
        except IllegalTransition as error:
            self._log.error("the guest is on both hosts, delete one of them", because=str(error))
        except PageferryError as error:
            self._log.info("the destination does not know of the decision", because=str(error))

    def stop_asking(self) -> None:
        """The host shuts down: leave an in-doubt commit in doubt."""
        self._stop_asking.set()

    def _migrate(self, guest: Guest) -> None:
        engine = self._set_up(guest)
        engine.pre_copy()
        assert self._clock is not None  # noqa: S101 - `_set_up` made it
        self._standstill.begin(self._clock)
        engine.pause()
        if self._was_running:
            self._guest_life.to(GuestState.PAUSED)
        state = engine.send_rest()
        self._standstill.step()
        memory_tag = engine.verify()
        self._standstill.check_commit()
        self._commit(state, memory_tag)

    def _set_up(self, guest: Guest) -> Engine:
        """Have memory reserved over there, warm the guest up, start tracking."""
        max_payload_bytes = self._prepare()
        self._check_cancelled()
        costs = self._offer.config.costs
        clock = self._clock = self._plan.make_clock(guest, costs, self._cancelled)
        if self._was_running:
            clock.resume()
            clock.let_run(self._plan.warmup_ns)
        with clock.exclusive():
            parts = guest.parts
            if self._flow is not NO_FLOW and parts.flow is not None:
                parts.flow.note_flow(self._flow.events)
                self._telling = parts.flow
            self._flow.moment("tracking_started", clock.now_ns, 0)
            if self._plan.keeps_twin and parts.twin is not None:
                parts.twin.keep_twin()
            guest.start_tracking()
            self._tracking = True
        return Engine(
            plan=self._plan,
            guest=guest,
            key=self._offer.key,
            clock=clock,
            transport=self._transport,
            progress=self._progress,
            max_payload_bytes=max_payload_bytes,
            cancelled=self._cancelled,
            flow=self._flow,
            after_message=self._standstill.step,
        )

    def _prepare(self) -> int:
        try:
            max_payload_bytes = self._transport.prepare(self._offer)
        except (HostUnreachable, MigrationCancelled, ContractMismatch, ContractBroken):
            self._prepared = True  # perhaps: the answer was lost, or cannot be relied on
            raise
        self._prepared = True
        return max_payload_bytes

    def _commit(self, state: bytes, memory_tag: bytes) -> None:
        """Hand over: the one step that cannot be taken back."""
        with self._commit_gate:
            self._check_cancelled()
            self._progress.advance(MigrationState.COMMITTING)
        start = self._was_running and self._plan.clock is ClockName.REAL
        answer_s = self._standstill.answer_s
        state_proof = state_tag(self._offer.key, state)
        self._transport.commit(Handover(memory_tag, state, state_proof, start, answer_s))
        self._complete()

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise MigrationCancelled("the migration was cancelled")

    def _stood_too_long(self, error: DowntimeExceeded) -> None:
        """End the stop-and-copy like a cancel, unless the commit was faster."""
        with self._commit_gate:
            state = self.state
            if state.is_outcome or state in _COMMIT_SENT:
                return
            self._too_long = error
            self._cancelled.set()
        self._transport.interrupt()

    def _complete(self) -> None:
        """The destination has the guest: let go of it."""
        self._guest_life.to(GuestState.MOVED)
        self._quietly(lambda: self._end_flow(MigrationState.COMPLETED))
        self._progress.complete()
        self._transport.close()

    def _end_flow(self, outcome: MigrationState) -> None:
        """Finish the flow; it is on disk before the outcome is reported."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.note_flow(None)
        if self._clock is not None:
            self._flow.moment("resume", self._clock.now_ns, 0)
        self._flow.finish(outcome.value)

    def _release(self) -> None:
        """Hold nothing of the guest once it ended: its memory goes with the last reference."""
        if self.state.is_outcome:
            self._clock = None

    def _deal_with(self, error: PageferryError) -> None:
        """Something stopped the migration; what that means depends on how far it had come."""
        if self._too_long is not None and isinstance(error, MigrationCancelled):
            error = self._too_long
        bug = isinstance(error, InvariantViolation)
        if self.state is MigrationState.COMMITTING and (bug or isinstance(error, OutcomeUnknown)):
            self._ask_until_known(error)
        else:
            self._give_up(error)

    def _named(self, error: Exception) -> PageferryError:
        """What stopped the migration and is no error of ours: a lack of something, or a bug."""
        limit = ran_out(error)
        if limit is None:
            self._log.exception("migration hit a bug")
            return InvariantViolation(f"a bug in pageferry stopped the migration: {error!r}")
        if self.state is MigrationState.COMMITTING:
            return OutcomeUnknown(f"{limit}; whether the commit arrived is not known yet")
        return limit

    def _give_up(self, error: PageferryError) -> None:
        """Go on with the guest here, and have the destination forget it."""
        self._quietly(lambda: self._let_guest_go_on(error))
        if self._prepared:
            self._quietly(lambda: self._transport.abort(str(error)))
        self._progress.failed(error)
        cancelled = self._cancelled.is_set() and isinstance(error, MigrationCancelled)
        outcome = MigrationState.CANCELLED if cancelled else MigrationState.FAILED
        self._quietly(lambda: self._end_flow(outcome))
        self._progress.advance(outcome)
        self._transport.close()

    def _let_guest_go_on(self, error: PageferryError) -> None:
        clock = self._clock
        if clock is not None:
            clock.pause()
            if self._tracking:
                with clock.exclusive() as guest:
                    guest.stop_tracking()
        if isinstance(error, GuestCrashed):
            self._guest_life.to(GuestState.CRASHED)
        elif self._was_running and self._guest_life.state is GuestState.PAUSED:
            self._guest_life.to(GuestState.RUNNING)
            if clock is not None:
                clock.resume()  # so that it notices how long it stood still
                clock.pause()

    def _quietly(self, step: Callable[[], None]) -> None:
        """One failure is being dealt with: note another and go on."""
        try:
            step()
        except PageferryError as error:
            self._log.info("while giving up", error=str(error))
        except Exception:  # noqa: BLE001 - see above
            self._log.exception("while giving up")

    def _ask_until_known(self, error: PageferryError) -> None:
        """The commit's answer was lost: keep the guest still and ask how it ended."""
        self._log.warning("commit in doubt", error=str(error))
        self._progress.failed(error)
        self._guest_life.to(GuestState.IN_DOUBT)
        self._progress.advance(MigrationState.IN_DOUBT)
        last = "no host was asked"
        for wait_s in (0.0, *self._ask_again_after_s):
            if self._stop_asking.wait(wait_s) or self.state is not MigrationState.IN_DOUBT:
                break
            try:
                with named_limits():
                    self.resolve()
            except PageferryError as still:
                last = str(still)
                self._log.info("commit still in doubt", error=last)
            except Exception as bug:  # noqa: BLE001 - stays in doubt, and must never hang
                last = repr(bug)
                self._log.exception("commit still in doubt")
        if self.state is MigrationState.IN_DOUBT:
            self._progress.failed(
                OutcomeUnknown(
                    f"{error}; asking again failed: {last}; the guest stands still: ask again with "
                    f"pageferry migrations ADDR resolve {self._offer.migration_id}, or where no "
                    "answer will ever come decide with --resolve keep or --resolve release"
                )
            )
            self._progress.settle()

    def _destination_has_it(self) -> bool:
        """Whether the guest is the destination's; if not, it has promised to refuse it."""
        try:
            if self._transport.is_committed():
                return True
            # The commit may still be on its way: only an abort that was answered ends that.
            self._transport.abort("the answer to the commit was lost")
        except IllegalTransition as refused:  # it arrived between the two questions
            if self._transport.is_committed():
                return True
            raise OutcomeUnknown(
                "the destination refuses to drop the migration and says that it did not take the "
                f"guest: it contradicts itself ({refused}); look there, then decide with "
                "pageferry migrations … --resolve keep|release"
            ) from refused
        return False


_CONTRADICTED = {
    Resolution.KEEP: (
        "the destination answers, and says that it took the guest: kept here, it would run twice; "
        "resolve it without forcing anything"
    ),
    Resolution.RELEASE: (
        "the destination answers, and says that it did not take the guest: released here, it "
        "would be lost; resolve it without forcing anything"
    ),
}
"""A decision is for when no host can be asked."""
