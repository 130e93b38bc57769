"""One incoming migration: memory that fills up, and the decision about it at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, RLock

from dest_host.scatter import scatter
from dest_host.states import IncomingState, incoming_lifecycle
from dest_host.verifier import differing_nodes, is_whole
from paging_core.config import GuestConfig
from paging_core.digest import FrameKey
from paging_core.errors import (
    BatchCorrupt,
    BatchOutOfOrder,
    IllegalTransition,
    InvalidInput,
    MigrationCancelled,
    VerificationFailed,
)
from paging_core.guest import Guest, Resume
from paging_core.memory import GuestMemory
from paging_core.migration_key import MigrationKey
from paging_core.proof import Proof, state_tag
from wire.batch import Batch
from wire.hosting.guests.hosted import GuestView
from wire.tcp import IdleWatch, received_bytes

_COMMIT_DUE_S = 10.0
"""A commit follows the end of its stream at once, and takes so long on its way on no usual link."""


@dataclass(frozen=True)
class Offer:
    """What a source announces before it sends anything.

    Attributes:
        migration_id: chosen by the source, unique.
        guest_id: what the guest is called on both hosts.
        config: what the guest is made of.
        key: the secret of the migration, which the source drew.
        trace_digest: xxh3_64 of the trace that it replays; 0 without one.
        owner: name on the certificate of the source; empty without one.
    """

    migration_id: str
    guest_id: str
    config: GuestConfig
    key: MigrationKey
    trace_digest: int = 0
    owner: str = ""


@dataclass(frozen=True)
class Handover:
    """What a commit says.

    Attributes:
        memory_tag: root of the source's proof.
        state: everything of the guest that is not memory.
        state_tag: of it.
    """

    memory_tag: bytes
    state: bytes
    state_tag: bytes


@dataclass(frozen=True)
class IncomingView:
    """How far a migration came, at one moment.

    Attributes:
        next_sequence: of the batch that is expected now.
        received_frames: frames that batches spoke of, of any kind.
        message: why it was aborted.
        received_bytes: that came on the connection of its stream, of messages that are not whole
            yet, too; 0 where that is not known.
    """

    migration_id: str
    state: IncomingState
    next_sequence: int = 0
    received_frames: int = 0
    message: str = ""
    received_bytes: int = 0


class Incoming:
    """A migration from Prepare to its outcome. Thread-safe: one step at a time.

    Attributes:
        offer: what was announced.
        memory_bytes: that it reserves.
        next_sequence: of the batch that is expected now.
        received_frames: frames that batches spoke of, of any kind.
        message: why it was aborted.
        differed: a comparison of all memory found a difference.
        answer: what the first commit was answered.
    """

    def __init__(self, offer: Offer, now: Callable[[], float] = time.monotonic) -> None:
        """Announced; call `reserve` before anything else."""
        self.offer = offer
        self.memory_bytes = offer.config.memory_bytes
        self.next_sequence = 0
        self.received_frames = 0
        self.message = ""
        self.differed = False
        self.answer: GuestView | None = None
        self._round = 0
        self._now = now
        self._lock = RLock()
        self._life = incoming_lifecycle(offer.migration_id)
        self._stream = 0
        self._left_after_s: float | None = None
        self._peer = ""
        self._idle_watch: IdleWatch | None = None
        self._frame_key = FrameKey.of(offer.key)
        self._proof: Proof | None = None
        self._memory: GuestMemory | None = None
        self._resume: Resume | None = None
        self._last_active = now()
        self._unwanted = Event()

    def reserve(self, resume: Resume) -> None:
        """Map the guest's memory and touch all of it, so that no page waits for that later.

        Args:
            resume: makes a guest of it in the end.

        Raises:
            LimitExceeded: the machine has no room.
            IllegalTransition: it was aborted meanwhile.
        """
        with self._lock:
            self._check_open("get memory")
            memory = GuestMemory(self.offer.config.n_frames)
            try:
                memory.populate(self._check_wanted)
            except BaseException:
                memory.close()
                raise
            self._resume, self._memory = resume, memory
            self._touch()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nothing else happens to this migration meanwhile."""
        with self._lock:
            yield

    @property
    def untouched_bytes(self) -> int:
        """Of its memory, what the machine has not given yet."""
        memory = self._memory
        touched_bytes = 0 if memory is None else memory.touched_bytes
        return max(0, self.memory_bytes - touched_bytes)

    @property
    def state(self) -> IncomingState:
        """How far it came."""
        return self._life.state

    @property
    def is_open(self) -> bool:
        """Whether its outcome is still to come."""
        return self.state not in {IncomingState.COMMITTED, IncomingState.ABORTED}

    @property
    def unwanted(self) -> bool:
        """Whether its abort was asked for, which may still wait for a step to end."""
        return self._unwanted.is_set()

    @property
    def is_left(self) -> bool:
        """Whether its source gave it up, or is gone: its stream ended, and nothing came of it."""
        left_after_s = self._left_after_s
        return self.is_open and left_after_s is not None and self.idle_s >= left_after_s

    @property
    def idle_s(self) -> float:
        """Seconds since the source was last heard of."""
        return self._now() - self._last_active

    def view(self) -> IncomingView:
        """How far it came; does not wait for who is at work on it."""
        return IncomingView(
            self.offer.migration_id,
            self.state,
            self.next_sequence,
            self.received_frames,
            self.message,
            (received_bytes(self._peer) or 0) if self.is_open else 0,
        )

    def attach(self, first_sequence: int, peer: str = "") -> int:
        """A stream begins; an earlier one, cut off or not, is not listened to any more.

        Args:
            first_sequence: of the batch that comes first.
            peer: whose stream, as gRPC names it; empty in this process.

        Returns:
            The stream's number, for `accept`.

        Raises:
            BatchOutOfOrder: it would not go on where the last one ended.
            IllegalTransition: the migration is over.
        """
        with self._lock:
            self._touch()
            self._check_open("take another stream")
            self._check_sequence(first_sequence)
            self._stream += 1
            self._peer, self._idle_watch, self._left_after_s = peer, None, None
            return self._stream

    def stream_ended(self, stream: int, *, broken: bool) -> None:
        """No more pages come on that stream.

        Args:
            stream: its number.
            broken: it broke off; otherwise its source has said all, and a commit is due.
        """
        if stream == self._stream:
            self._left_after_s = 0.0 if broken else _COMMIT_DUE_S

    def accept(self, batch: Batch, stream: int | None = None) -> None:
        """Put a checked batch where it belongs.

        Raises:
            BatchOutOfOrder: it is not the next one.
            BatchCorrupt: its unchanged frames differ from what stands here.
            IllegalTransition: the migration is over, or another stream took over.
        """
        with self._lock:
            self._touch()
            self._check_open("take pages")
            if stream is not None and stream != self._stream:
                raise IllegalTransition(
                    f"another stream goes on with migration {self.offer.migration_id!r}; "
                    "end this one"
                )
            self._check_sequence(batch.sequence)
            self._check_round(batch)
            if self.state is not IncomingState.RECEIVING:
                self._life.to(IncomingState.RECEIVING)
            self._proof = None
            scatter(self._standing().frames, batch, self._frame_key)
            self._round = batch.round
            self.next_sequence += 1
            self.received_frames += batch.runs.n_frames

    def compare(self, level: int, nodes: Sequence[int], theirs: bytes) -> list[int]:
        """Which nodes of the source's proof differ from memory as it stands here.

        Without nodes nothing is compared; the proof is made, for questions to come.

        Raises:
            BadOption: there are no such nodes, or not a tag for each.
            IllegalTransition: nothing has arrived yet, or the migration is over.
        """
        with self._lock:
            self._touch()
            self._check_open("be compared")
            proof = self._proved()
            if not nodes and not theirs:
                return []
            differing = differing_nodes(proof, self._standing().frames, level, nodes, theirs)
            if is_whole(proof, level):
                self.differed = self.differed or bool(differing)
                if not differing and self.state is IncomingState.RECEIVING:
                    self._life.to(IncomingState.VERIFIED)
            return differing

    def commit(self, handover: Handover, adopt: Callable[[str, Guest], GuestView]) -> GuestView:
        """Make a guest of it; from the moment this returns the guest is this host's.

        Whatever fails here leaves the migration as it was: not committed.

        Args:
            handover: what the source says about the guest.
            adopt: takes the guest in by its name; called last, and may still refuse.

        Returns:
            The guest as it begins here.

        Raises:
            VerificationFailed: memory here is not memory there.
            BatchCorrupt: the state does not match its digest.
            InvalidInput: the state is none, or of another guest.
            IllegalTransition: nothing has arrived yet, or the migration is over.
        """
        with self._lock:
            self._touch()
            self._check_open("be committed")
            self._verify(handover)
            guest = self._guest_of(handover.state)
            self.answer = adopt(self.offer.guest_id, guest)
            self._life.to(IncomingState.COMMITTED)
            self._hold_nothing()
            return self.answer

    def abort(self, reason: str) -> bool:
        """Drop it and free the memory.

        Returns:
            False when that was done before.

        Raises:
            IllegalTransition: it was committed.
        """
        self._unwanted.set()  # a long step on it ends at that, and releases the lock
        with self._lock:
            if self.state is IncomingState.ABORTED:
                return False
            self._life.to(IncomingState.ABORTED)
            self.message = reason
            if self._memory is not None:
                self._memory.close()
            self._hold_nothing()
            return True

    def expire(self, idle_s: float) -> bool:
        """Abort it if its source said nothing for longer than `idle_s` seconds."""
        if not self._lock.acquire(blocking=False):
            return False  # a call is at work on it: not idle
        try:
            if not self.is_open or not self._is_idle(idle_s):
                return False
            return self.abort(f"nothing was heard of the source for {idle_s:.0f} s")
        finally:
            self._lock.release()

    def _is_idle(self, idle_s: float) -> bool:
        """Whether neither a message nor part of one came for so long."""
        if self._idle_watch is None:
            self._idle_watch = IdleWatch(self._peer, idle_s)
        now_s = self._now()
        if not self._idle_watch.came(self._last_active, now_s):
            return True
        if now_s - self._last_active > idle_s:
            self._touch()
        return False

    def _verify(self, handover: Handover) -> None:
        if state_tag(self.offer.key, handover.state) != handover.state_tag:
            raise BatchCorrupt("the guest's state does not match its tag; commit again")
        if self._proved().root != handover.memory_tag:
            self.differed = True
            raise VerificationFailed(
                "memory here is not what the source's tag says; compare digests to find the frames"
            )
        if self.state is IncomingState.RECEIVING:
            self._life.to(IncomingState.VERIFIED)

    def _guest_of(self, state: bytes) -> Guest:
        memory, resume = self._reserved()
        guest = resume(memory, state)
        if guest.n_frames != self.offer.config.n_frames:
            raise InvalidInput(
                f"the state is of a guest of {guest.n_frames} frames, Prepare announced "
                f"{self.offer.config.n_frames}"
            )
        return guest

    def _proved(self) -> Proof:
        if self.state is IncomingState.PREPARED:
            raise IllegalTransition(
                f"migration {self.offer.migration_id!r} is prepared and has got no pages yet; "
                "send its memory first"
            )
        if self._proof is None:
            try:
                self._proof = Proof(self._standing().frames, self.offer.key, self._unwanted.is_set)
            except MigrationCancelled as error:
                raise self._aborted_meanwhile() from error
        return self._proof

    def _check_wanted(self) -> None:
        if self._unwanted.is_set():
            raise self._aborted_meanwhile()

    def _aborted_meanwhile(self) -> IllegalTransition:
        return IllegalTransition(
            f"migration {self.offer.migration_id!r} was aborted meanwhile; start a new one"
        )

    def _standing(self) -> GuestMemory:
        return self._reserved()[0]

    def _reserved(self) -> tuple[GuestMemory, Resume]:
        if self._memory is None or self._resume is None:
            raise IllegalTransition(
                f"migration {self.offer.migration_id!r} has no memory here; "
                "wait for the answer to its Prepare"
            )
        return self._memory, self._resume

    def _hold_nothing(self) -> None:
        """Its outcome is remembered for long; the workload may be as large as the memory."""
        self._memory = self._proof = self._resume = None

    def _check_open(self, what: str) -> None:
        if not self.is_open:
            why = f" ({self.message})" if self.message else ""
            raise IllegalTransition(
                f"migration {self.offer.migration_id!r} is {self.state}{why} and cannot {what}"
            )

    def _check_sequence(self, sequence: int) -> None:
        if sequence != self.next_sequence:
            raise BatchOutOfOrder(
                f"batch {sequence} came where {self.next_sequence} is due; "
                f"go on with {self.next_sequence}"
            )

    def _check_round(self, batch: Batch) -> None:
        if batch.round < max(1, self._round):
            raise BatchOutOfOrder(
                f"batch {batch.sequence} is of round {batch.round} after one of round "
                f"{self._round}; rounds count from 1 and do not go back"
            )

    def _touch(self) -> None:
        self._last_active = self._now()
