"""The destination without a network: what a host does, as plain calls.

The gRPC service is a thin layer over this class, and it can be used in-process just so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Protocol

import structlog

from dest_host.incoming import Handover, Incoming, IncomingView, Offer
from dest_host.limits import Limits
from dest_host.metrics import DestinationMetrics
from dest_host.refusals import Refusals
from dest_host.states import IncomingState
from paging_core.config import GuestConfig
from paging_core.errors import AlreadyExists, HostStopping, IllegalTransition, NotFound
from paging_core.exhaustion import named_limits
from paging_core.guest import Resume
from wire.batch import Batch
from wire.codec import RawBatch
from wire.hosting.guests.guests import Guests, Promised
from wire.hosting.guests.hosted import GuestView
from wire.hosting.room import MemoryOfHost
from wire.identity import new_host_id
from wire.runs import FrameRuns

_REMEMBERED = 4096
"""Outcomes of each source that are kept in case it asks late; the oldest are forgotten first."""

_log = structlog.get_logger("dest_host.receiver")


class Preparing(Protocol):
    """Knows which guests this host can run; `wire.hosting.guests.kinds.Kinds` does."""

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        """See `paging_core.guest.GuestMaker.prepare`."""


class Receiver:
    """Incoming migrations and the guests that came of them. Thread-safe.

    Attributes:
        limits: what it is willing to take.
        guests: those that were taken over.
        metrics: what it counted.
        host_id: who it is, in this life of it.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        factory: Preparing | None = None,
        metrics: DestinationMetrics | None = None,
        now: Callable[[], float] = time.monotonic,
        machine: MemoryOfHost | None = None,
        *,
        guests: Guests | None = None,
        host_id: str = "",
    ) -> None:
        """Ready to receive.

        Args:
            limits: the defaults when None.
            factory: makes guests of what arrives; what makes those of `guests` when None.
            metrics: counted in a registry of their own when None.
            now: seconds, for the expiry of migrations whose source went silent.
            machine: what memory there is beside the limits; None does not look.
            guests: of the host, those that were taken over among them; none yet when None.
            host_id: who it is; drawn when empty.
        """
        self.host_id = host_id or new_host_id()
        self.limits = limits or Limits()
        self._machine = machine
        self.guests = Guests() if guests is None else guests
        self.guests.arriving = self._promised
        self.metrics = metrics or DestinationMetrics()
        self._factory: Preparing = factory or self.guests.kinds
        self._now = now
        self._lock = Lock()
        self._incoming: dict[str, Incoming] = {}
        self._refused = Refusals(_REMEMBERED)
        self._stopping = False
        self.metrics.watch(
            incoming=lambda state: sum(one.state is state for one in self._open()),
            guests=lambda state: sum(one.state is state for one in self.guests.all()),
            reserved_bytes={
                "incoming": lambda: sum(one.memory_bytes for one in self._open()),
                "guest": lambda: self.guests.memory_bytes,
            },
            names=lambda: ((one.guest_id, one.came_by) for one in self.guests.all()),
        )

    def prepare(self, offer: Offer) -> int:
        """Reserve memory for a guest; preparing again resumes what was cut off.

        Returns:
            The sequence number to go on with.

        Raises:
            LimitExceeded: more than this host takes.
            AlreadyExists: the guest is here, or this migration's name is taken by another.
            IllegalTransition: that migration is over.
            InvalidInput: this host cannot run such a guest.
            HostStopping: this host takes in nothing any more.
        """
        self._drop_left(offer)
        with self._lock:
            self._refused.check(offer.owner, offer.migration_id)
            if self._stopping:
                raise HostStopping(
                    "this destination host stops and takes in no more guests; "
                    "migrate when it is back, or to another"
                )
            known = self._incoming.get(offer.migration_id)
            if known is not None:
                return _again(known, offer)
            self._check_room(offer)
            incoming = Incoming(offer, self._now)
            self._incoming[offer.migration_id] = incoming
            self._forget_oldest()
        # Its room is promised from here on: nothing is built for a guest that does not fit.
        try:
            incoming.reserve(self._factory.prepare(offer.config, offer.trace_digest))
        except BaseException:
            with self._lock:
                if not incoming.unwanted:  # else it is aborted, and that is remembered
                    self._incoming.pop(offer.migration_id, None)
            raise
        _log.info("prepared", migration=offer.migration_id, guest=offer.guest_id)
        return incoming.next_sequence

    def attach(
        self, migration_id: str, first_sequence: int, peer: str = ""
    ) -> tuple[Incoming, int]:
        """A stream of pages begins: the migration, and the stream's number for `take`.

        Raises:
            NotFound: it was not prepared.
            BatchOutOfOrder, IllegalTransition: see `Incoming.attach`.
        """
        incoming = self.incoming(migration_id)
        return incoming, incoming.attach(first_sequence, peer)

    def take(self, incoming: Incoming, raw: RawBatch, stream: int) -> Batch:
        """Check a batch as it came over the wire, and put it into memory.

        Raises:
            StreamError: it breaks the contract; see `Batch.from_message`.
            IllegalTransition: see `Incoming.accept`.
        """
        applied: list[FrameRuns] = []
        with self.metrics.batch(incoming.offer.migration_id, raw.wire_bytes, applied):
            batch = raw.checked(incoming.offer.config.n_frames, self.limits.max_payload_bytes)
            incoming.accept(batch, stream)
            applied.append(batch.runs)
        return batch

    def accept(self, migration_id: str, batch: Batch) -> None:
        """Put a batch into memory that came in-process, unchecked by any codec.

        Raises:
            FramesOutsideGuest, PayloadSize, StreamError: it does not fit the guest.
            BatchOutOfOrder, BatchCorrupt, IllegalTransition: see `Incoming.accept`.
        """
        incoming = self.incoming(migration_id)
        applied: list[FrameRuns] = []
        with self.metrics.batch(migration_id, 0, applied):
            batch.check(incoming.offer.config.n_frames, self.limits.max_payload_bytes)
            incoming.accept(batch)
            applied.append(batch.runs)

    def compare(
        self, migration_id: str, level: int, nodes: Sequence[int], theirs: bytes
    ) -> list[int]:
        """Compare part of the proof; see `Incoming.compare`."""
        incoming = self.incoming(migration_id)
        # Alone, so that no question is taken to have ended the proof when another one did.
        with self.metrics.verifying(), incoming.exclusive():
            before = incoming.state
            differing = incoming.compare(level, nodes, theirs)
            ended_it = before is not incoming.state
        if differing:
            _log.warning("differs", migration=migration_id, level=level, nodes=differing[:16])
        elif ended_it:
            result = "repaired" if incoming.differed else "equal"
            self.metrics.verified(migration_id, result)
        return differing

    def commit(self, migration_id: str, handover: Handover, *, start: bool) -> GuestView:
        """Take the guest over. Committing again changes nothing and answers like the first time.

        Args:
            migration_id: whose guest.
            handover: what the source says about it.
            start: let it run at once, on the real clock; otherwise it waits, paused.

        Raises:
            VerificationFailed, BatchCorrupt, InvalidInput, IllegalTransition: it was not
                committed; see `Incoming.commit`.
        """
        incoming = self.incoming(migration_id)
        with incoming.exclusive():
            if incoming.answer is not None:
                self.metrics.repeated(migration_id)
                return incoming.answer
            config = self.guests.kinds.here(incoming.offer.config)
            adopt = partial(self.guests.add, config=config, came_by=migration_id, start=start)
            try:
                with named_limits(), self.metrics.handover(migration_id):
                    answer = incoming.commit(handover, adopt)
            except Exception:
                if incoming.answer is None:
                    raise
                # The guest is this host's: what failed was counting it, and no error may say no.
                answer = incoming.answer
            with suppress(Exception):  # see above
                self.metrics.outcome(migration_id, "committed")
                _log.info("committed", migration=migration_id, guest=incoming.offer.guest_id)
            return answer

    def abort(self, migration_id: str, reason: str, owner: str = "") -> None:
        """Drop a migration and free its memory; aborting again changes nothing.

        One that was never prepared is remembered as aborted for its owner alone: its
        Prepare may still be on the way.

        Raises:
            IllegalTransition: it was committed.
        """
        with self._lock:
            incoming = self._incoming.get(migration_id)
            if incoming is None:
                self._refused.add(owner, migration_id, reason)
                return
        if incoming.abort(reason):
            self._ended(incoming, "aborted")
            _log.info("aborted", migration=migration_id, reason=reason)

    def expire(self) -> None:
        """Abort the migrations whose source has been silent for too long."""
        for incoming in self._open():
            if incoming.expire(self.limits.idle_expiry_s):
                self._ended(incoming, "expired")
                _log.warning("expired", migration=incoming.offer.migration_id)

    def incoming(self, migration_id: str, owner: str = "") -> Incoming:
        """The migration of that name.

        Raises:
            NotFound: it was not prepared here, or was forgotten since.
            IllegalTransition: its owner aborted it before it was prepared.
        """
        self._refused.check(owner, migration_id)
        incoming = self._incoming.get(migration_id)
        if incoming is None:
            raise NotFound(f"no migration {migration_id!r} was prepared on this host")
        return incoming

    def owner(self, migration_id: str) -> str | None:
        """Name of the source that prepared a migration; None if it was not."""
        incoming = self._incoming.get(migration_id)
        return None if incoming is None else incoming.offer.owner

    def view(self, migration_id: str, owner: str = "") -> IncomingView:
        """How far a migration came, or how it ended.

        Raises:
            NotFound: it was not prepared here, or was forgotten since.
        """
        reason = self._refused.reason(owner, migration_id)
        if reason is not None:
            return IncomingView(migration_id, IncomingState.ABORTED, message=reason)
        return self.incoming(migration_id).view()

    def abort_all(self, reason: str) -> None:
        """Drop what is under way, and take in nothing more."""
        with self._lock:
            self._stopping = True
        for incoming in self._open():
            with suppress(IllegalTransition):  # its commit was faster
                self.abort(incoming.offer.migration_id, reason)

    def close(self) -> None:
        """Abort what is under way and delete every guest."""
        self.abort_all("the destination host stops")
        self.guests.close()

    def _drop_left(self, offer: Offer) -> None:
        """A guest comes again whose last migration was left: that one needs no room any more.

        Its source was started again, or could not reach this host to abort it. If that source still
        runs, its next call is answered so, and an aborted migration is safe for its guest. Those of
        other sources are left alone, as is one whose stream is open or whose commit is due.
        """
        for one in self._open():
            known = one.offer
            if known.migration_id == offer.migration_id or not one.is_left:
                continue
            if (known.guest_id, known.owner) == (offer.guest_id, offer.owner):
                with suppress(IllegalTransition):  # it was committed meanwhile
                    self.abort(known.migration_id, "its stream ended, and its guest came again")

    def _ended(self, incoming: Incoming, outcome: str) -> None:
        """It was dropped; memory that differed then was never repaired."""
        migration_id = incoming.offer.migration_id
        if incoming.differed:
            self.metrics.verified(migration_id, "different")
        self.metrics.outcome(migration_id, outcome)

    def _open(self) -> list[Incoming]:
        return [one for one in list(self._incoming.values()) if one.is_open]

    def _promised(self) -> list[Promised]:
        return [
            Promised(one.offer.guest_id, one.memory_bytes, one.untouched_bytes)
            for one in self._open()
        ]

    def _check_room(self, offer: Offer) -> None:
        """Refuse what does not fit, under the lock: memory is promised only once."""
        self.guests.check_free(offer.guest_id)
        open_ones = self._open()
        if any(one.offer.guest_id == offer.guest_id for one in open_ones):
            raise AlreadyExists(
                f"another migration of guest {offer.guest_id!r} to this host is under way; "
                "wait for it or cancel it at its source; one that broke off there and is not "
                "heard of is dropped after --idle-expiry"
            )
        reserved_bytes = self.guests.memory_bytes + sum(one.memory_bytes for one in open_ones)
        self.limits.check_guest(offer.config.memory_bytes, reserved_bytes, len(open_ones))
        if self._machine is not None:
            untouched_bytes = sum(one.untouched_bytes for one in open_ones)
            untouched_bytes += self.guests.untouched_bytes
            self._machine.check(offer.config.memory_bytes, untouched_bytes)

    def _forget_oldest(self) -> None:
        # A source in doubt may ask late: what brought a guest that is still here is not forgotten,
        # and no source can have the outcomes of another one forgotten.
        held = {guest.came_by for guest in self.guests.all()}
        over: dict[str, list[str]] = {}
        for name, one in self._incoming.items():
            if not one.is_open and name not in held:
                over.setdefault(one.offer.owner, []).append(name)
        for names in over.values():
            for name in names[:-_REMEMBERED]:
                del self._incoming[name]


def _again(known: Incoming, offer: Offer) -> int:
    if not known.is_open:
        raise IllegalTransition(
            f"migration {offer.migration_id!r} is {known.state} already; start a new one"
        )
    if known.offer != offer:
        raise AlreadyExists(
            f"migration {offer.migration_id!r} was prepared for another guest; "
            "choose another migration id"
        )
    return known.next_sequence
