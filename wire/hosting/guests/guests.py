"""All guests of a host, by name: names and memory are promised once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event, Lock

import structlog

from paging_core.config import GuestConfig
from paging_core.errors import (
    AlreadyExists,
    HostStopping,
    LimitExceeded,
    MigrationCancelled,
    NotFound,
)
from paging_core.guest import Guest
from paging_core.units import format_bytes
from wire.hosting.guests.hosted import GuestView, HostedGuest
from wire.hosting.guests.kinds import Kinds
from wire.hosting.guests.states import GuestState
from wire.hosting.room import MemoryOfHost
from wire.names import GUEST_CHARS, check_name

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Promised:
    """Memory of a guest that is not here yet.

    Attributes:
        guest_id: its name.
        memory_bytes: of it.
        untouched_bytes: of that, what the machine has not given yet.
    """

    guest_id: str
    memory_bytes: int
    untouched_bytes: int


class Guests:
    """All guests of a host, by name. Thread-safe.

    Attributes:
        kinds: makes them.
        stopping: set when the host stops: what runs or boots ends soon.
        arriving: what else takes names and memory here: guests on their way to this host.
    """

    def __init__(
        self,
        max_memory_bytes: int | None = None,
        max_guest_bytes: int | None = None,
        machine: MemoryOfHost | None = None,
        kinds: Kinds | None = None,
    ) -> None:
        """An empty host.

        Args:
            max_memory_bytes: most memory of all guests together; None for as much as there is.
            max_guest_bytes: most memory of one guest that is booted; None for as much.
            machine: what there is; None does not look.
            kinds: what makes guests; models in this very process when None.
        """
        self.kinds = kinds or Kinds()
        self._max_memory_bytes = max_memory_bytes
        self._max_guest_bytes = max_guest_bytes
        self._machine = machine
        self._lock = Lock()
        self._guests: dict[str, HostedGuest] = {}
        self._booting: dict[str, int] = {}
        self.arriving: Callable[[], Iterable[Promised]] = tuple
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
            BadOption: a name that cannot be, or a kind that this host does not have.
            AlreadyExists: there is a guest of that name.
            LimitExceeded: it does not fit this host.
            InvalidInput: no such workload or trace.
            GuestOutOfMemory: its workload does not fit its memory.
            HostStopping: the host stops.
        """
        if self.stopping.is_set():
            raise HostStopping("this source host stops and boots no more guests; use another")
        self._reserve(guest_id, config)

        def look_up() -> None:
            if self.stopping.is_set() or not keep_going():
                raise MigrationCancelled("the caller that wanted this guest went away")

        try:
            hosted = HostedGuest(guest_id, self.kinds.boot(config, look_up), config)
        except BaseException:
            with self._lock:
                del self._booting[guest_id]
            raise
        with self._lock:  # in one step: its name and memory are never free in between
            del self._booting[guest_id]
            self._guests[guest_id] = hosted
        _log.info("guest booted", guest_id=guest_id, memory_bytes=config.memory_bytes)
        return hosted

    def add(
        self,
        guest_id: str,
        guest: Guest,
        config: GuestConfig,
        *,
        came_by: str = "",
        start: bool = False,
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
            self._check_free(guest_id)
            hosted = HostedGuest(guest_id, guest, config, came_by=came_by)
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
        with self._lock:
            self._check_free(guest_id)

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
            promised_bytes = self._untouched_bytes() + sum(self._booting.values())
        try:
            self._machine.check(hosted.memory_bytes, promised_bytes)
        except LimitExceeded as error:
            raise LimitExceeded(
                f"no room for the untracked twin of {hosted.guest_id!r}; --no-twin does without: "
                f"{error}"
            ) from None

    def delete(self, guest_id: str) -> GuestView:
        """Forget a guest, running or not, and free its memory.

        Returns:
            What it was last.

        Raises:
            NotFound: there is none.
            IllegalTransition: a migration needs it, or another call works on it.
        """
        view = self.get(guest_id).delete()
        with self._lock:
            self._guests.pop(guest_id, None)
        _log.info("guest deleted", guest_id=guest_id)
        return view

    def all(self) -> list[HostedGuest]:
        """Every guest, by name."""
        with self._lock:
            return [self._guests[name] for name in sorted(self._guests)]

    @property
    def memory_bytes(self) -> int:
        """Memory of all of them, and of those that boot."""
        with self._lock:
            return self._used_bytes() + sum(self._booting.values())

    @property
    def untouched_bytes(self) -> int:
        """Of it, what the machine has not given yet."""
        with self._lock:
            return self._untouched_bytes() + sum(self._booting.values())

    def close(self) -> None:
        """The host ends: give the memory of all guests back."""
        for hosted in self.all():
            if hosted.memory_bytes:
                hosted.let_go("the host stopped")

    def _check_free(self, guest_id: str) -> None:
        known = self._guests.get(guest_id)
        if known is not None and known.life.state is GuestState.MOVED:
            return  # it may come back: who moved is remembered until then
        if known is not None or guest_id in self._booting:
            raise AlreadyExists(
                f"guest {guest_id!r} is on this host already; delete it or take another name"
            )

    def _reserve(self, guest_id: str, config: GuestConfig) -> None:
        check_name(guest_id, "guest_id", GUEST_CHARS)
        self.kinds.check(config.kind)
        memory_bytes = config.memory_bytes
        if self._max_guest_bytes is not None and memory_bytes > self._max_guest_bytes:
            raise LimitExceeded(
                f"a guest of {format_bytes(memory_bytes)} is larger than the "
                f"{format_bytes(self._max_guest_bytes)} that this host boots; take a smaller "
                "guest, or start the host with a larger --max-guest-memory"
            )
        arriving = list(self.arriving())
        with self._lock:
            if guest_id in self._guests or any(one.guest_id == guest_id for one in arriving):
                raise AlreadyExists(
                    f"guest {guest_id!r} is on this host already; delete it or take another name"
                )
            self._check_free(guest_id)
            self._check_room(memory_bytes, arriving)
            self._booting[guest_id] = memory_bytes

    def _check_room(self, memory_bytes: int, arriving: Iterable[Promised]) -> None:
        """Refuse what does not fit, under the lock: memory is promised only once."""
        booting = sum(self._booting.values())
        if self._max_memory_bytes is not None:
            used = self._used_bytes() + sum(one.memory_bytes for one in arriving)
            free = self._max_memory_bytes - used - booting
            if memory_bytes > free:
                raise LimitExceeded(
                    f"a guest of {format_bytes(memory_bytes)} does not fit: this host has "
                    f"{format_bytes(max(0, free))} left of {format_bytes(self._max_memory_bytes)}; "
                    "delete some (pageferry guests), or start the host with a larger "
                    "--max-total-memory"
                )
        if self._machine is not None:
            untouched = self._untouched_bytes() + sum(one.untouched_bytes for one in arriving)
            self._machine.check(memory_bytes, untouched + booting)

    def _used_bytes(self) -> int:
        return sum(hosted.memory_bytes for hosted in self._guests.values())

    def _untouched_bytes(self) -> int:
        return sum(hosted.untouched_bytes for hosted in self._guests.values())
