"""What a process has mapped, from /proc/PID/maps, and what of it can be recorded."""

from __future__ import annotations

import enum
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SPECIAL = frozenset({"[vdso]", "[vsyscall]", "[vvar]", "[vvar_vclock]", "[uprobes]"})
_SHARED_MEMORY = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage")
"""Names of shared memory without a file system that anybody mounted."""
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "hugetlbfs", "devtmpfs"})
_CHUNK_BYTES = 1 << 20


class Kind(enum.Enum):
    """How the pages of a mapping come about, which decides how a written one is told."""

    PRIVATE = "private"
    """A write makes a page of its own: anonymous memory, data of a program, copies of a file."""
    SHARED = "shared memory"
    """Pages belong to a file in memory: memfd, /dev/shm, System V; of a VM often its RAM."""
    OTHER = "not recorded"
    """Files on a disk that are shared, devices, and what the kernel puts there."""


class MapEntry(NamedTuple):
    """A line of /proc/PID/maps.

    Attributes:
        start, end: addresses.
        readable, writable, executable, shared: what may be done with it.
        offset: into the file, bytes.
        device: major:minor of the file's file system.
        inode: of the file; 0: none.
        name: the file or what it is for; empty for anonymous memory.
    """

    start: int
    end: int
    readable: bool
    writable: bool
    executable: bool
    shared: bool
    offset: int
    device: str
    inode: int
    name: str

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.end - self.start

    @property
    def anonymous(self) -> bool:
        """Whether no file is behind it."""
        return self.inode == 0


def parse_maps(text: bytes) -> list[MapEntry]:
    """The lines of /proc/PID/maps, ascending and apart.

    The kernel prints them in parts. Where mappings merge or grow between two parts, the first line
    of the second begins before the last one of the first ended: what was said already is left out.
    """
    entries, end = [], 0
    for line in os.fsdecode(text).splitlines():
        entry = _parsed(line)
        start = max(entry.start, end)
        if start < entry.end:
            entries.append(entry._replace(start=start))
            end = entry.end
    return entries


def _parsed(line: str) -> MapEntry:
    addresses, modes, offset, device, inode, *name = line.split(None, 5)
    start, _, end = addresses.partition("-")
    return MapEntry(
        int(start, 16), int(end, 16),
        modes[0] == "r", modes[1] == "w", modes[2] == "x", modes[3] == "s",
        int(offset, 16), device, int(inode), name[0] if name else "",
    )  # fmt: skip


class Maps:
    """The mappings of a process as it is now; of a program that it executes later, none."""

    def __init__(self, pid: int) -> None:
        """Open them.

        Raises:
            OSError: no such process, or not permitted.
        """
        self._file = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
        self._in_memory = _devices_in_memory(pid)

    def read(self) -> list[MapEntry]:
        """All of them, ascending; none once the address space has gone."""
        os.lseek(self._file, 0, os.SEEK_SET)
        parts = []
        with suppress(ProcessLookupError):
            while part := os.read(self._file, _CHUNK_BYTES):
                parts.append(part)
        return parse_maps(b"".join(parts))

    def kind(self, entry: MapEntry) -> Kind:
        """How pages of a mapping come about."""
        if entry.name in _SPECIAL or entry.name.startswith("anon_inode:"):
            return Kind.OTHER
        in_memory = entry.device in self._in_memory or entry.name.startswith(_SHARED_MEMORY)
        if entry.shared:
            return Kind.SHARED if in_memory and not _a_device(entry) else Kind.OTHER
        return Kind.OTHER if _a_device(entry) else Kind.PRIVATE

    def close(self) -> None:
        """Close them."""
        os.close(self._file)


def can_have_written_pages(entry: MapEntry) -> bool:
    """Whether somebody may have written into it: it can be written, or it is no file's."""
    if entry.writable:
        return True
    return entry.anonymous and (entry.readable or entry.executable)


def _a_device(entry: MapEntry) -> bool:
    shared_memory = entry.name.startswith(("/dev/shm/", "/dev/zero", "/dev/hugepages"))  # noqa: S108
    return entry.name.startswith("/dev/") and not shared_memory


def _devices_in_memory(pid: int) -> frozenset[str]:
    """File systems that keep their files in memory, as MapEntry.device has them."""
    found = set()
    for line in Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        mount, _, file_system = line.partition(" - ")
        if file_system.split(" ")[0] in _MEMORY_FILE_SYSTEMS:
            major, _, minor = mount.split(" ")[2].partition(":")
            found.add(f"{int(major):02x}:{int(minor):02x}")
    return frozenset(found)
