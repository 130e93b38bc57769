"""How much more memory this process can get before the kernel ends it: machine and cgroups.

Read anew at each question: a limit may be lowered, or the process moved, while it serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from paging_core.errors import LimitExceeded
from paging_core.exhaustion import ran_out
from paging_core.units import format_bytes

HEADROOM_BYTES = 128 * 2**20
"""Left for the process itself: messages on the way, 32 MiB for each of 4 migrations."""
OWN_SHARE = 32
"""A guest costs its memory, and of what it is made of beside it one part in so many at most.
Measured for guests of 16 MiB to 2 GiB: tables of the tracker 1.2 %, digests 0.4 %."""
OWN_BYTES = 4 * 2**20
"""And that much, however small it is: its shadow pool and its buffers."""

_log = structlog.get_logger("wire.hosting.room")

_NO_LIMIT = 2**60
"""What stands in a version 1 cgroup without a limit is near 2^63; no machine has as much."""


@dataclass(frozen=True)
class Room:
    """What can still be had.

    Attributes:
        free_bytes: that this process can take before a process is killed; not below 0.
        total_bytes: the limit that this rests on.
        what: sets that limit, for display: the machine, or a cgroup and its file.
        way_out: how to have more of it.
    """

    free_bytes: int
    total_bytes: int
    what: str
    way_out: str


@dataclass(frozen=True)
class MemoryOfHost:
    """Where limits are read; other roots than that of the file system are for tests.

    Attributes:
        root: of the file system that `/proc` and the cgroups are looked for in.
    """

    root: Path = Path("/")

    def room(self) -> Room | None:
        """The tightest limit; None where no limit can be read at all."""
        rooms = list(self._rooms())
        return min(rooms, key=lambda one: one.free_bytes) if rooms else None

    def tell(self, configured_bytes: int | None) -> None:
        """Say in the log what holds as a host starts: the smaller of what it was told and this.

        Args:
            configured_bytes: of ``--max-total-memory``; None when it was not given.
        """
        room = self.room()
        if room is None:
            _log.warning("no limit of memory can be read here", configured=configured_bytes)
            return
        free_bytes = max(0, room.free_bytes - HEADROOM_BYTES)
        told = {"free_bytes": free_bytes, "limit_bytes": room.total_bytes, "set_by": room.what}
        if configured_bytes is None:
            _log.info("memory for guests", **told)
        elif configured_bytes <= free_bytes:
            _log.info("memory for guests", **told, max_total_memory=configured_bytes)
        else:
            _log.warning(
                "--max-total-memory is more than there is: guests beyond that are refused",
                **told,
                max_total_memory=configured_bytes,
            )

    def check(self, memory_bytes: int, promised_bytes: int) -> None:
        """Refuse a guest that would have this process killed, and every guest in it.

        Args:
            memory_bytes: of the guest.
            promised_bytes: memory that guests here were promised and have not touched yet.

        Raises:
            LimitExceeded: it does not fit; names the limit, who sets it and the way out.
        """
        room = self.room()
        if room is None:
            return
        free_bytes = room.free_bytes - promised_bytes - HEADROOM_BYTES
        needed_bytes = memory_bytes + memory_bytes // OWN_SHARE + OWN_BYTES
        if needed_bytes > free_bytes:
            raise LimitExceeded(
                f"a guest of {format_bytes(memory_bytes)} needs {format_bytes(needed_bytes)} with "
                f"its tables, and this host has {format_bytes(max(0, free_bytes))} left of the "
                f"{format_bytes(room.total_bytes)} that {room.what} allows; {room.way_out}, delete "
                "guests there (pageferry guests) or take another host"
            )

    def _rooms(self) -> Iterator[Room]:
        yield from self._machine()
        for mount in self._mounts():
            for folder in mount.up_from(self._cgroup(mount)):
                yield from _of_cgroup(folder, mount.version)

    def _machine(self) -> Iterator[Room]:
        lines = _lines(self.root / "proc/meminfo")
        sizes = {line.split(":")[0]: line.split()[1] for line in lines if len(line.split()) > 1}
        total, free = (_number(sizes.get(name, "")) for name in ("MemTotal", "MemAvailable"))
        if total is not None and free is not None:
            yield Room(free << 10, total << 10, "this machine", "end what takes memory on it")

    def _mounts(self) -> Iterator[_Mount]:
        """Of the memory controllers: version 1, version 2, or both."""
        for line in _lines(self.root / "proc/self/mountinfo"):
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if len(fields) < 5 or len(kind) < 3:
                continue
            at = self.root / fields[4].lstrip("/")
            if kind[0] == "cgroup2":
                yield _Mount(2, at, fields[3])
            elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
                yield _Mount(1, at, fields[3])

    def _cgroup(self, mount: _Mount) -> str:
        """The path of this process's group in the hierarchy of a mount."""
        for line in _lines(self.root / "proc/self/cgroup"):
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if mount.version == 2 and number == "0" and not controllers:
                return path
            if mount.version == 1 and "memory" in controllers.split(","):
                return path
        return "/"


@dataclass(frozen=True)
class _Mount:
    version: int
    at: Path
    root: str

    def up_from(self, path: str) -> Iterator[Path]:
        """The folder of a group and of each group around it, as far as they can be seen here."""
        inside = path if self.root == "/" else path.removeprefix(self.root)
        hidden = ".." in inside.split("/") or (inside == path and self.root != "/")
        folder = self.at if hidden else self.at / inside.strip("/")
        while folder != self.at and self.at in folder.parents:
            yield folder
            folder = folder.parent
        yield self.at


def _of_cgroup(folder: Path, version: int) -> Iterator[Room]:
    """The limits of one group; what is cached of files gives way and does not count as used."""
    if version == 1:
        limits, used, cached = ["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive"
    else:
        limits, used, cached = ["memory.max", "memory.high"], "memory.current", "inactive"
    used_bytes = _number(_text(folder / used))
    if used_bytes is None:
        return
    stat = (line.split() for line in _lines(folder / "memory.stat"))
    given = {line[0]: _number(line[1]) for line in stat if len(line) == 2}
    used_bytes -= given.get(f"{cached}_file") or 0
    for name in limits:
        limit_bytes = _number(_text(folder / name))
        if limit_bytes is not None and limit_bytes < _NO_LIMIT:
            yield Room(
                max(0, limit_bytes - max(0, used_bytes)),
                limit_bytes,
                f"cgroup {folder}",
                f"raise its {name}",
            )


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    """Empty where there is no such file: not every kernel has each.

    Raises:
        LimitExceeded: it could not be opened for want of something; that is not "no limit".
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        limit = ran_out(error)
        if limit is not None:
            raise limit from error
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
