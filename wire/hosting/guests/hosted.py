"""One guest on a host, whatever kind it is and wherever it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, RLock

import structlog

from paging_core.config import GuestConfig
from paging_core.errors import (
    IllegalTransition,
    MigrationCancelled,
    PageferryError,
    forget_frames,
)
from paging_core.exhaustion import ran_out
from paging_core.guest import Guest
from paging_core.units import FRAME_BYTES
from wire.checksum import xxh3
from wire.hosting.guest_thread import Pace, in_real_time
from wire.hosting.guests.states import GuestState, guest_lifecycle
from wire.hosting.strides import Strides
from wire.memory_digest import digest_memory

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class GuestView:
    """A guest at one moment.

    Attributes:
        guest_id: its name.
        state: what it is doing.
        memory_bytes: of the guest; what it takes here is 0 once it moved.
        time_ns: its own time.
        accesses: operations of its load since it booted.
        memory_digest: of all memory (`digest_memory`); 0 unless asked for.
        state_digest: xxh3_64 of what is not memory; 0 unless asked for, and where states of such
            guests cannot be compared.
        message: why it crashed, where it moved.
        config: what it is made of.
        trace_digest: XXH3-64 of the trace that it replays; 0 without one.
    """

    guest_id: str
    state: GuestState
    memory_bytes: int
    time_ns: int
    accesses: int
    config: GuestConfig
    memory_digest: int = 0
    state_digest: int = 0
    message: str = ""
    trace_digest: int = 0


class HostedGuest:
    """A guest and what it is doing. Thread-safe.

    One call works on it at a time, and none while a migration has it; looking never waits.

    Attributes:
        guest_id: its name.
        config: what it is made of.
        life: its state.
        trace_digest: XXH3-64 of the trace that it replays; 0 without one.
        message: why it crashed, where it moved.
        came_by: the migration that brought it here; empty if it was booted here.
        migration_id: the migration that takes it away now; empty when none does.
        destination: where that leads, or the last one led.
    """

    def __init__(
        self, guest_id: str, guest: Guest, config: GuestConfig, *, came_by: str = ""
    ) -> None:
        """Take in a guest that stands still."""
        self.guest_id = guest_id
        self.config = config
        self.trace_digest = guest.trace_digest
        self.life = guest_lifecycle(guest_id)
        self.message = ""
        self.came_by = came_by
        self.migration_id = ""
        self.destination = ""
        self._size_bytes = guest.n_frames * FRAME_BYTES
        self._guest: Guest | None = guest
        self._lock = Lock()
        self._look = RLock()
        self._last_seen = (guest.time_ns, guest.position)
        # Made with the guest, and idle until it runs: a commit for which there is no thread is
        # refused, and a guest that was taken over can be started whatever there is by then.
        self._pace: Pace | None = in_real_time(guest)

    @property
    def state(self) -> GuestState:
        """What it is doing."""
        self._notice_crash()
        return self.life.state

    @property
    def progress(self) -> tuple[int, int]:
        """Its own time in nanoseconds and the operations it executed, as last seen here."""
        guest = self._guest
        if guest is not None:
            self._last_seen = (guest.time_ns, guest.position)
        return self._last_seen

    @property
    def memory_bytes(self) -> int:
        """Memory that it takes here; 0 once it moved."""
        return self._size_bytes if self._guest is not None else 0

    @property
    def untouched_bytes(self) -> int:
        """Of that, what the machine has not given yet and will when the guest writes there."""
        guest = self._guest
        return 0 if guest is None else max(0, self.memory_bytes - guest.memory.touched_bytes)

    def start(self) -> None:
        """Let it run, in real time.

        Raises:
            IllegalTransition: it is not paused, or a call or a migration has it.
        """
        with self._idle("start"):
            self._notice_crash()
            self._pace_here()
            self.life.to(GuestState.RUNNING)
            self._run_on()

    def pause(self) -> None:
        """Let it stand still.

        Raises:
            IllegalTransition: it is not running, or a call or a migration has it.
        """
        with self._idle("pause"):
            self._notice_crash()
            self.life.to(GuestState.PAUSED)
            self._pace_here().pause()

    def step(
        self,
        *,
        accesses: int = 0,
        duration_ns: int = 0,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run it by an exact amount, and pause it again.

        Args:
            accesses: workload operations to execute, or
            duration_ns: guest time to let pass.
            keep_going: asked now and then; False leaves it where it stands.

        Raises:
            IllegalTransition: it is not paused, it cannot be stepped so, or a call or a migration
                has it.
            GuestCrashed: its kernel gave up; whatever else stops it has it crashed, too.
            MigrationCancelled: its caller went away.
        """
        with self._idle("step"):
            if self.state is not GuestState.PAUSED:
                raise IllegalTransition(
                    f"guest {self.guest_id!r} is {self.life.state}; only a paused guest can be "
                    "stepped, pause it first"
                )
            guest = self._present()
            try:
                _run(guest, accesses, duration_ns, keep_going)
            except (MigrationCancelled, IllegalTransition):
                raise
            except Exception as error:
                limit = ran_out(error)
                if limit is not None:  # of this host and not of the guest, which can go on later
                    raise limit from error
                self._crashed(error)
                raise

    def view(self, *, with_digest: bool = False) -> GuestView:
        """The guest now; how far it came, where a step is under way.

        Args:
            with_digest: digest all of its memory and state, too; it stands still meanwhile.

        Raises:
            IllegalTransition: digests of a guest that moved, or that a migration has.
        """
        digests = self.digests() if with_digest else (0, 0)
        state, (time_ns, accesses) = self.state, self.progress
        return GuestView(
            self.guest_id,
            state,
            self._size_bytes,
            time_ns,
            accesses,
            self.config,
            *digests,
            self.message,
            self.trace_digest,
        )

    def digests(self) -> tuple[int, int]:
        """Of its memory (`digest_memory`) and of what it is beside that (xxh3).

        The second is equal for a guest that moved and one that never did.

        Raises:
            IllegalTransition: it moved, or it is being migrated.
        """
        with self._idle("digest", wait=True):
            guest = self._present()
            with self._pace_here().still():
                comparable = guest.parts.comparable
                state = b"" if comparable is None else comparable.architectural_state()
                return digest_memory(guest.memory.frames), xxh3(state) if state else 0

    def claim(self, migration_id: str, *, let_run: bool = False) -> Guest:
        """Give it to a migration, until `release` or `let_go`; it stands still.

        Args:
            migration_id: whose it is.
            let_run: it runs from now on, if it is paused.

        Raises:
            IllegalTransition: it has one already, or it cannot be migrated.
        """
        with self._idle("migrate"):
            if self.state not in (GuestState.PAUSED, GuestState.RUNNING):
                raise IllegalTransition(
                    f"guest {self.guest_id!r} is {self.life.state}{self._why} and cannot be "
                    "migrated; only a paused or running guest can"
                )
            guest = self._present()
            if self.life.state is GuestState.RUNNING:
                self._pace_here().pause()
            elif let_run:
                self.life.to(GuestState.RUNNING)
            self.migration_id = migration_id
            return guest

    def release(self, message: str = "") -> None:
        """Its migration ended and it is still here: it goes on as it was, or crashed."""
        self.message = message
        if self.life.state is GuestState.RUNNING:
            self._run_on()
        self.migration_id = ""

    def let_go(self, message: str) -> None:
        """It moved: free its memory."""
        with self._lock:
            self._free(message)

    def delete(self) -> GuestView:
        """It is not wanted any more: free its memory.

        Returns:
            What it was last.

        Raises:
            IllegalTransition: a migration needs it, or another call works on it.
        """
        with self._idle("delete"):
            view = self.view()
            self._free("deleted")
            return view

    def check_idle(self, what: str) -> None:
        """Refuse what must not happen during a migration.

        Raises:
            IllegalTransition: it is being migrated.
        """
        if self.life.state is GuestState.IN_DOUBT:
            raise IllegalTransition(
                f"cannot {what} guest {self.guest_id!r} while it is in doubt who has it; ask with "
                f"pageferry migrations ADDR resolve {self.migration_id}, and where the destination "
                "will never answer decide with --resolve keep or --resolve release"
            )
        if self.migration_id:
            raise IllegalTransition(
                f"cannot {what} guest {self.guest_id!r} while migration {self.migration_id!r} "
                "needs it; wait for that or cancel it"
            )

    def stop(self) -> None:
        """It is not this host's: it stands still for good, and its memory is left alone."""
        with self._lock, self._look:
            pace, self._pace = self._pace, None
            if pace is not None:
                pace.stop()

    @property
    def _why(self) -> str:
        return f" ({self.message})" if self.message else ""

    def _run_on(self) -> None:
        try:
            self._pace_here().resume()
        except PageferryError as error:
            self._crashed(error)

    def _free(self, message: str) -> None:
        with self._look:
            _ = self.progress
            pace, self._pace = self._pace, None
            guest, self._guest = self._guest, None
            self.message = message
            self.migration_id = ""
            if pace is not None:
                pace.stop()
            if guest is not None:
                guest.close()

    def _idle(self, what: str, *, wait: bool = False) -> _Idle:
        return _Idle(self, self._lock, what, wait)

    def _present(self) -> Guest:
        if self._guest is None:
            raise self._gone()
        return self._guest

    def _pace_here(self) -> Pace:
        if self._pace is None:
            raise self._gone()
        return self._pace

    def _gone(self) -> IllegalTransition:
        return IllegalTransition(
            f"guest {self.guest_id!r} is {self.life.state} and not here ({self.message})"
        )

    def _notice_crash(self) -> None:
        """A guest that crashed while nobody asked says so when it is looked at.

        A migration notices by itself.
        """
        with self._look:
            pace = self._pace
            crashed = self.life.state in (GuestState.CRASHED, GuestState.MOVED)
            if pace is None or self.migration_id or crashed:
                return
            try:
                pace.check()
            except Exception as error:  # noqa: BLE001 - it stands still, whatever it was
                self._crashed(error)

    def _crashed(self, error: Exception) -> None:
        """It is looked at and deleted like any other, and says why it stands still."""
        with self._look:
            if self.life.state is not GuestState.CRASHED:
                self.life.to(GuestState.CRASHED)
            if isinstance(error, PageferryError):
                self.message = str(error)
            else:
                self.message = f"a bug in pageferry stopped it: {error!r}"
                _log.error("guest stopped by a bug", guest=self.guest_id, exc_info=error)
            forget_frames(error)  # its thread keeps it


class _Idle:
    """Holds a guest's lock for a call that must not meet another one, or a migration."""

    def __init__(self, hosted: HostedGuest, lock: Lock, what: str, wait: bool) -> None:
        self._hosted, self._lock, self._what, self._wait = hosted, lock, what, wait

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=self._wait):
            raise IllegalTransition(
                f"cannot {self._what} guest {self._hosted.guest_id!r} while another call "
                "works on it; try again when that has ended"
            )
        try:
            self._hosted.check_idle(self._what)
        except IllegalTransition:
            self._lock.release()
            raise

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


def _run(guest: Guest, accesses: int, duration_ns: int, keep_going: Callable[[], bool]) -> None:
    """Run by an exact amount, looking now and then whether the caller still waits."""

    def look_up() -> None:
        if not keep_going():
            raise MigrationCancelled("the caller of this step went away")

    strides, parts = Strides(look_up), guest.parts
    if accesses and parts.stepped is None:
        raise IllegalTransition("a guest of this kind cannot be stepped; start it and pause it")
    if duration_ns and parts.driven is None:
        raise IllegalTransition(
            "a guest of this kind runs in real time and is not stepped by its own; start it and "
            "pause it"
        )
    if parts.stepped is not None:
        strides.run_accesses(parts.stepped, accesses)
    if duration_ns and parts.driven is not None:
        strides.run(parts.driven, guest.time_ns + duration_ns)
