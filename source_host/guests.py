"""The guests of this host.

A guest advances only when told to: by `step`, or by a migration for as long as
that lasts. RUNNING is what the operator asked for: such a guest runs while it is migrated, and
goes on running where it arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock

import structlog

from paging_core.config import GuestConfig, GuestKind, check_kind
from paging_core.errors import (
    AlreadyExists,
    GuestCrashed,
    HostStopping,
    IllegalTransition,
    LimitExceeded,
    MigrationCancelled,
    NotFound,
)
from paging_core.model_guest import ModelGuest
from paging_core.units import format_bytes
from source_host.states import GuestState, guest_lifecycle
from wire.checksum import xxh3
from wire.hosting.room import MemoryOfHost
from wire.hosting.strides import Strides
from wire.memory_digest import digest_memory
from wire.names import GUEST_CHARS, check_name

_log = structlog.get_logger(__name__)


class HostedGuest:
    """One guest on this host.

    Attributes:
        guest_id: its name.
        config: what it is made of.
        life: its state.
        trace_digest: XXH3-64 of the trace that it replays; 0 without one.
        message: why it crashed, where it moved.
        migration_id: the migration that it belongs to now; empty when none.
        destination: where that leads, or the last one led.
    """

    def __init__(self, guest_id: str, config: GuestConfig, guest: ModelGuest) -> None:
        """Take in a guest that was just booted."""
        self.guest_id = guest_id
        self.config = config
        self.trace_digest = guest.trace_digest
        self.life = guest_lifecycle(guest_id)
        self.message = ""
        self.migration_id = ""
        self.destination = ""
        self._guest: ModelGuest | None = guest
        self._lock = Lock()
        self._last_seen = (guest.time_ns, guest.position)

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
        return self.config.memory_bytes if self._guest is not None else 0

    @property
    def untouched_bytes(self) -> int:
        """Of that, what the machine has not given yet and will when the guest writes there."""
        guest = self._guest
        return 0 if guest is None else max(0, self.memory_bytes - guest.memory.touched_bytes)

    def start(self) -> None:
        """Say that it shall run."""
        with self._idle("start"):
            self.life.to(GuestState.RUNNING)

    def pause(self) -> None:
        """Say that it shall not run."""
        with self._idle("pause"):
            self.life.to(GuestState.PAUSED)

    def step(
        self, *, accesses: int = 0, duration_ns: int = 0, keep_going: Callable[[], bool]
    ) -> None:
        """Run it by an exact amount, and pause it again.

        Args:
            accesses: workload operations to execute, or
            duration_ns: guest time to let pass.
            keep_going: asked now and then; False leaves it where it stands.

        Raises:
            IllegalTransition: it is not paused, or it is being migrated.
            GuestCrashed: its kernel gave up.
        """
        with self._idle("step"):
            if self.life.state is not GuestState.PAUSED:
                raise IllegalTransition(
                    f"guest {self.guest_id!r} is {self.life.state}; only a paused guest can be "
                    "stepped, pause it first"
                )
            guest = self._present()
            try:
                _run(guest, accesses, duration_ns, keep_going)
            except GuestCrashed as error:
                self.life.to(GuestState.CRASHED)
                self.message = str(error)
                raise

    def digests(self) -> tuple[int, int]:
        """Of its memory (`digest_memory`) and of what it is beside that (xxh3).

        The second is equal for a guest that moved and one that never did.

        Raises:
            IllegalTransition: it moved, or it is being migrated.
        """
        with self._idle("digest"):
            guest = self._present()
            return digest_memory(guest.memory.frames), xxh3(guest.architectural_state())

    def claim(self, migration_id: str) -> ModelGuest:
        """Give it to a migration, until `release` or `let_go`.

        Raises:
            IllegalTransition: it has one already, or it cannot be migrated.
        """
        with self._idle("migrate"):
            if self.life.state not in (GuestState.PAUSED, GuestState.RUNNING):
                raise IllegalTransition(
                    f"guest {self.guest_id!r} is {self.life.state}{self._why} and cannot be "
                    "migrated; only a paused or running guest can"
                )
            self.migration_id = migration_id
            return self._present()

    @property
    def _why(self) -> str:
        return f" ({self.message})" if self.message else ""

    def release(self, message: str = "") -> None:
        """Its migration ended and it is still here."""
        self.message = message
        self.migration_id = ""

    def let_go(self, message: str) -> None:
        """It moved: free its memory."""
        with self._lock:
            self._free(message)

    def delete(self) -> None:
        """It is not wanted any more: free its memory.

        Raises:
            IllegalTransition: a migration needs it, or another call works on it.
        """
        with self._idle("delete"):
            self._free("deleted")

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

    def _free(self, message: str) -> None:
        _ = self.progress
        guest, self._guest = self._guest, None
        self.message = message
        self.migration_id = ""
        if guest is not None:
            guest.close()

    def _idle(self, what: str) -> _Idle:
        return _Idle(self, self._lock, what)

    def _present(self) -> ModelGuest:
        if self._guest is None:
            raise IllegalTransition(
                f"guest {self.guest_id!r} is {self.life.state} and not here ({self.message})"
            )
        return self._guest


class _Idle:
    """Holds a guest's lock for a call that must not meet another one, or a migration."""

    def __init__(self, hosted: HostedGuest, lock: Lock, what: str) -> None:
        self._hosted, self._lock, self._what = hosted, lock, what

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
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


class Guests:
    """All guests of this host, by name. Thread-safe.

    Attributes:
        stopping: set when the host stops: what runs or boots ends soon.
    """

    def __init__(
        self,
        max_memory_bytes: int | None,
        max_guest_bytes: int | None = None,
        machine: MemoryOfHost | None = None,
    ) -> None:
        """An empty host.

        Args:
            max_memory_bytes: most memory of all guests together; None for as much as there is.
            max_guest_bytes: most memory of one guest; None for as much.
            machine: what there is; None does not look.
        """
        self._max_memory_bytes = max_memory_bytes
        self._max_guest_bytes = max_guest_bytes
        self._machine = machine
        self._lock = Lock()
        self._guests: dict[str, HostedGuest] = {}
        self._booting: dict[str, int] = {}
        self.stopping = Event()

    def take_no_more(self) -> None:
        """The host stops: no guest is booted any more, and what boots or runs ends soon."""
        self.stopping.set()

    def create(
        self, guest_id: str, config: GuestConfig, keep_going: Callable[[], bool] = lambda: True
    ) -> HostedGuest:
        """Boot a guest, paused.

        Args:
            guest_id: its name.
            config: what it is made of.
            keep_going: asked now and then; False gives the boot up.

        Raises:
            MigrationCancelled: its caller went away, or the host stops.
            BadOption: a name that cannot be.
            AlreadyExists: there is a guest of that name.
            LimitExceeded: it does not fit this host.
            InvalidInput: no such workload or trace.
            GuestOutOfMemory: its workload does not fit its memory.
            HostStopping: the host stops.
        """
        check_kind(config.kind, (GuestKind.MODEL,))
        if self.stopping.is_set():
            raise HostStopping("this source host stops and boots no more guests; use another")
        self._reserve(guest_id, config.memory_bytes)

        def look_up() -> None:
            if self.stopping.is_set() or not keep_going():
                raise MigrationCancelled("the caller that wanted this guest went away")

        try:
            hosted = HostedGuest(guest_id, config, ModelGuest.boot(config, look_up=look_up))
        except BaseException:
            with self._lock:
                del self._booting[guest_id]
            raise
        with self._lock:  # in one step: its name and memory are never free in between
            del self._booting[guest_id]
            self._guests[guest_id] = hosted
        _log.info("guest booted", guest_id=guest_id, memory_bytes=config.memory_bytes)
        return hosted

    def close(self) -> None:
        """The host ends: give the memory of all guests back."""
        for hosted in self.all():
            if hosted.memory_bytes:
                hosted.let_go("the source host stopped")

    def get(self, guest_id: str) -> HostedGuest:
        """The guest of that name.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            hosted = self._guests.get(guest_id)
        if hosted is None:
            raise NotFound(
                f"no guest {guest_id!r} on this host; pageferry guests lists those that it has"
            )
        return hosted

    def check_room_for_twin(self, hosted: HostedGuest) -> None:
        """Refuse a twin that the machine has no memory for; it needs as much as its guest.

        Raises:
            LimitExceeded: the migration can do without a twin.
        """
        if self._machine is None:
            return
        with self._lock:
            untouched = sum(other.untouched_bytes for other in self._guests.values())
            promised_bytes = untouched + sum(self._booting.values())
        try:
            self._machine.check(hosted.config.memory_bytes, promised_bytes)
        except LimitExceeded as error:
            raise LimitExceeded(
                f"no room for the untracked twin of {hosted.guest_id!r}; --no-twin does without: "
                f"{error}"
            ) from None

    def delete(self, guest_id: str) -> HostedGuest:
        """Forget a guest and free its memory.

        Raises:
            NotFound: there is none.
            IllegalTransition: a migration needs it, or another call works on it.
        """
        hosted = self.get(guest_id)
        hosted.delete()
        with self._lock:
            self._guests.pop(guest_id, None)
        _log.info("guest deleted", guest_id=guest_id)
        return hosted

    def all(self) -> list[HostedGuest]:
        """Every guest."""
        with self._lock:
            return list(self._guests.values())

    def _reserve(self, guest_id: str, memory_bytes: int) -> None:
        check_name(guest_id, "guest_id", GUEST_CHARS)
        if self._max_guest_bytes is not None and memory_bytes > self._max_guest_bytes:
            raise LimitExceeded(
                f"a guest of {format_bytes(memory_bytes)} is larger than the "
                f"{format_bytes(self._max_guest_bytes)} that this host boots; take a smaller "
                "guest, or start the host with a larger --max-guest-memory"
            )
        with self._lock:
            if guest_id in self._guests or guest_id in self._booting:
                raise AlreadyExists(
                    f"guest {guest_id!r} is on this host already; delete it or take another name"
                )
            self._check_room(memory_bytes)
            self._booting[guest_id] = memory_bytes

    def _check_room(self, memory_bytes: int) -> None:
        """Refuse what does not fit, under the lock: memory is promised only once."""
        here, booting = self._guests.values(), sum(self._booting.values())
        if self._max_memory_bytes is not None:
            used = sum(hosted.memory_bytes for hosted in here)
            free = self._max_memory_bytes - used - booting
            if memory_bytes > free:
                raise LimitExceeded(
                    f"a guest of {format_bytes(memory_bytes)} does not fit: this host has "
                    f"{format_bytes(max(0, free))} left of {format_bytes(self._max_memory_bytes)}; "
                    "delete some (pageferry guests), or start the host with a larger "
                    "--max-total-memory"
                )
        if self._machine is not None:
            untouched = sum(hosted.untouched_bytes for hosted in here)
            self._machine.check(memory_bytes, untouched + booting)


class _NobodyWaits(Exception):
    """The caller that asked for a step went away."""


def _run(
    guest: ModelGuest, accesses: int, duration_ns: int, keep_going: Callable[[], bool]
) -> None:
    """Run by an exact amount, looking now and then whether the caller still waits."""

    def look_up() -> None:
        if not keep_going():
            raise _NobodyWaits

    strides = Strides(look_up)
    with suppress(_NobodyWaits):
        strides.run_accesses(guest, accesses)
        if duration_ns:
            strides.run(guest, guest.time_ns + duration_ns)
