"""The guests that were taken over: run, paused, stepped, looked at, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Event, Lock, RLock

import structlog

from dest_host.states import GuestState, guest_lifecycle
from paging_core.errors import (
    AlreadyExists,
    IllegalTransition,
    MigrationCancelled,
    NotFound,
    PageferryError,
    forget_frames,
)
from paging_core.exhaustion import ran_out
from paging_core.guest import Guest
from paging_core.units import FRAME_BYTES
from wire.checksum import xxh3
from wire.hosting.guest_thread import Pace, in_real_time
from wire.hosting.strides import Strides
from wire.memory_digest import digest_memory

_NAMED = 5
"""Guests that an error lists; pageferry guests lists all."""

NO_STEPS = "a guest of this kind cannot be stepped by"

_log = structlog.get_logger("dest_host.guests")


@dataclass(frozen=True)
class GuestView:
    """A guest at one moment.

    Attributes:
        time_ns: its own virtual time.
        accesses: workload operations since it booted.
        memory_digest: of all memory (`digest_memory`); 0 unless asked for.
        state_digest: xxh3_64 of what is not memory; 0 unless asked for.
        message: why it crashed.
    """

    guest_id: str
    state: GuestState
    memory_bytes: int
    time_ns: int
    accesses: int
    memory_digest: int = 0
    state_digest: int = 0
    message: str = ""


class HostedGuest:
    """A guest and what it is doing. Thread-safe.

    On the real clock it runs in a thread of its own, in slices during which no interpreter
    lock is held; any other caller waits for the end of a slice.

    Attributes:
        guest_id: its name.
        migration_id: what brought it here.
        memory_bytes: that it takes.
    """

    def __init__(self, guest_id: str, guest: Guest, migration_id: str = "") -> None:
        self.guest_id = guest_id
        self.migration_id = migration_id
        self.memory_bytes = guest.n_frames * FRAME_BYTES
        self._guest = guest
        self._life = guest_lifecycle(guest_id)
        self._message = ""
        self._lock = RLock()
        # Made with the guest, and idle until it runs: a commit for which there is no thread is
        # refused, and a guest that was taken over can be started whatever there is by then.
        self._thread: Pace | None = in_real_time(guest)

    @property
    def state(self) -> GuestState:
        """What it is doing."""
        self._notice_crash()
        return self._life.state

    def start(self) -> None:
        """Let it run in real time.

        Raises:
            IllegalTransition: it is running, or crashed.
        """
        with self._lock:
            self._notice_crash()
            self._life.to(GuestState.RUNNING)
            if self._thread is not None:
                self._thread.resume()

    def pause(self) -> None:
        """Let it stand still.

        Raises:
            IllegalTransition: it is not running.
        """
        with self._lock:
            self._notice_crash()
            self._life.to(GuestState.PAUSED)
            if self._thread is not None:
                self._thread.pause()

    def step_accesses(self, accesses: int, wanted: Callable[[], bool] = lambda: True) -> None:
        """Run exactly so many workload operations, as fast as it goes.

        Args:
            accesses: how many.
            wanted: asked now and then; False ends the step early.

        Raises:
            IllegalTransition: it is not paused.
            GuestCrashed: its kernel gave up; whatever else stops it has it crashed, too.
            MigrationCancelled: its caller went away.
        """
        with self._stepping():
            stepped = self._guest.parts.stepped
            if stepped is None:
                raise IllegalTransition(f"{NO_STEPS} a number of operations; start and pause it")
            Strides(lambda: _check_wanted(wanted)).run_accesses(stepped, accesses)

    def step_ns(self, duration_ns: int, wanted: Callable[[], bool] = lambda: True) -> None:
        """Run for so much of its own time; otherwise like `step_accesses`."""
        with self._stepping():
            driven = self._guest.parts.driven
            if driven is None:
                raise IllegalTransition(f"{NO_STEPS} a time; start and pause it")
            Strides(lambda: _check_wanted(wanted)).run(driven, driven.time_ns + duration_ns)

    def view(self, *, with_digest: bool = False) -> GuestView:
        """The guest as it stands between two slices; how far it came, where a step is under way.

        Args:
            with_digest: digest all of its memory and state, too; waits until none is.
        """
        with self._still(wait=with_digest) as guest:
            return GuestView(
                guest_id=self.guest_id,
                state=self._life.state,
                memory_bytes=self.memory_bytes,
                time_ns=guest.time_ns,
                accesses=guest.position,
                memory_digest=digest_memory(guest.memory.frames) if with_digest else 0,
                state_digest=_state_digest(guest) if with_digest else 0,
                message=self._message,
            )

    def close(self) -> None:
        """End its thread and give its memory back."""
        with self._lock:
            self.stop()
            self._guest.close()

    def stop(self) -> None:
        """End its thread; it stands still for good."""
        with self._lock:
            if self._thread is not None:
                self._thread.stop()
                self._thread = None

    @contextmanager
    def _still(self, *, wait: bool) -> Iterator[Guest]:
        """The guest, standing still; in the middle of a step or a digest without `wait`."""
        if not self._lock.acquire(blocking=wait):
            yield self._guest
            return
        try:
            thread = self._thread
            with nullcontext() if thread is None else thread.exclusive():
                self._notice_crash()
                yield self._guest
        finally:
            self._lock.release()

    @contextmanager
    def _stepping(self) -> Iterator[None]:
        with self._lock:
            if self.state is not GuestState.PAUSED:
                raise IllegalTransition(
                    f"guest {self.guest_id!r} is {self._life.state}; only a paused guest can step"
                )
            try:
                yield
            except MigrationCancelled:
                raise
            except Exception as error:
                limit = ran_out(error)
                if limit is not None:  # of this host and not of the guest, which can go on later
                    raise limit from error
                self._crashed(error)
                raise

    def _notice_crash(self) -> None:
        """A guest that crashed in its thread says so when it is looked at.

        One that is in a step is left for the next look: looking must not wait.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._thread is not None and self._life.state is GuestState.RUNNING:
                self._thread.check()
        except Exception as error:  # noqa: BLE001 - it stands still, whatever it was
            self._crashed(error)
        finally:
            self._lock.release()

    def _crashed(self, error: Exception) -> None:
        """It is looked at and deleted like any other, and says why it stands still."""
        self._life.to(GuestState.CRASHED)
        if isinstance(error, PageferryError):
            self._message = str(error)
        else:
            self._message = f"a bug in pageferry stopped it: {error!r}"
            _log.error("guest stopped by a bug", guest=self.guest_id, exc_info=error)
        forget_frames(error)  # its thread keeps it


def _state_digest(guest: Guest) -> int:
    """0 where its state cannot be compared."""
    comparable = guest.parts.comparable
    return 0 if comparable is None else xxh3(comparable.architectural_state())


def _some(names: list[str]) -> str:
    """A line can name a few: statuses and logs carry it."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"


def _check_wanted(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise MigrationCancelled("the caller of this step went away")


class Guests:
    """The guests of this host, by name. Thread-safe.

    Attributes:
        stopping: set when the host stops: a step ends between two strides.
    """

    def __init__(self) -> None:
        self.stopping = Event()
        self._lock = Lock()
        self._guests: dict[str, HostedGuest] = {}

    def add(
        self, guest_id: str, guest: Guest, migration_id: str = "", *, start: bool = False
    ) -> GuestView:
        """Take a guest in, paused, or running if it shall `start`.

        Others can call it only once nothing is left that could be refused: a commit that was
        carried out and then answered with an error would have the guest run on both hosts.

        Returns:
            It as it begins here.

        Raises:
            AlreadyExists: there is one of that name.
        """
        with self._lock:
            self.check_free(guest_id)
            hosted = HostedGuest(guest_id, guest, migration_id)
            try:
                if start:
                    hosted.start()
                view = hosted.view()
                self._guests[guest_id] = hosted
            except BaseException:
                hosted.stop()  # it is not ours, and goes on at its source
                raise
            return view

    def check_free(self, guest_id: str) -> None:
        """Refuse a name that is taken.

        Raises:
            AlreadyExists: there is a guest of that name.
        """
        if guest_id in self._guests:
            raise AlreadyExists(
                f"a guest {guest_id!r} is here already; delete it or choose another name"
            )

    def get(self, guest_id: str) -> HostedGuest:
        """The guest of that name.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            hosted = self._guests.get(guest_id)
            known = [] if hosted else sorted(self._guests)
        if hosted is None:
            raise NotFound(f"no guest {guest_id!r} was taken over here; there are: {_some(known)}")
        return hosted

    def delete(self, guest_id: str) -> GuestView:
        """Forget a guest, running or not, and free its memory.

        Returns:
            What it was last.

        Raises:
            NotFound: there is none.
        """
        hosted = self.get(guest_id)
        view = hosted.view()
        with self._lock:
            self._guests.pop(guest_id, None)
        hosted.close()
        return view

    def all(self) -> list[HostedGuest]:
        """Every guest, by name."""
        with self._lock:
            return [self._guests[name] for name in sorted(self._guests)]

    @property
    def memory_bytes(self) -> int:
        """Memory of all of them."""
        return sum(hosted.memory_bytes for hosted in self.all())

    def close(self) -> None:
        """Delete all of them."""
        for hosted in self.all():
            self.delete(hosted.guest_id)
