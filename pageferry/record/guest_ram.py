"""Where in a process the RAM of its virtual machine lies, and at which guest addresses.

QEMU maps a machine's RAM as one block. Its first byte is guest physical address 0. What does not
fit below the hole for devices, under 4 GiB, continues at 4 GiB. How much fits is up to the machine;
the figures are those of `info mtree -f` in the monitor of QEMU 7.2:

    pc, pc-i440fx-…   all of it if it is less than 3.5 GiB, otherwise 3 GiB
    q35, pc-q35-…     all of it if it is less than 2.75 GiB, otherwise 2 GiB
    microvm           3 GiB

If the command line says how much RAM there is (-m; QEMU's default otherwise), the mapping is the
smallest one of private or shared memory that holds as much, and RAM is its end: QEMU puts a guard
page behind RAM, whereas the kernel may have joined it with memory that lies before. Of other
programs it is the largest. Memory that can be executed is none: TCG keeps its code in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from pageferry.record.errors import CannotRecord
from pageferry.record.mappings import Kind, MapEntry, Maps
from pageferry.record.tracker import Pages
from paging_core.errors import BadOption
from paging_core.traces.written.schema import Mapping
from paging_core.units import FRAME_BYTES, FRAME_SHIFT, format_bytes, parse_size_bytes

_GIB = 1 << 30
_HOLE_END = 4 * _GIB
_LEAST_RAM_BYTES = 1 << 20
_MACHINES = {  # RAM from which it is split, and what stays below
    "pc": (7 * _GIB // 2, 3 * _GIB),
    "q35": (11 * _GIB // 4, 2 * _GIB),
    "microvm": (3 * _GIB, 3 * _GIB),
}
_QEMU = re.compile(r"qemu-system-(i386|x86_64)|qemu-kvm|kvm")
_SIZE_DEFAULT_UNIT = "MiB"
_QEMU_DEFAULT_RAM_BYTES = 128 << 20


class GuestRam(NamedTuple):
    """RAM of a virtual machine.

    Attributes:
        start, end: addresses in the process.
        low_bytes: of it lie from guest address 0 on; the rest lies from 4 GiB on.
        assumed: why it is believed to be that, for people.
    """

    start: int
    end: int
    low_bytes: int
    assumed: str

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return self.end - self.start

    def gfns(self, pages: Pages) -> Pages:
        """Guest frame numbers of pages of the process, ascending as those do."""
        offsets = pages - np.uint64(self.start >> FRAME_SHIFT)
        moved = np.uint64((_HOLE_END - self.low_bytes) >> FRAME_SHIFT)
        return np.where(
            offsets < np.uint64(self.low_bytes >> FRAME_SHIFT), offsets, offsets + moved
        )

    def mappings(self) -> tuple[Mapping, ...]:
        """Where it lies in the guest."""
        low = Mapping(0, self.low_bytes >> FRAME_SHIFT, "RAM")
        high_pages = (self.size_bytes - self.low_bytes) >> FRAME_SHIFT
        if not high_pages:
            return (low,)
        return (low, Mapping(_HOLE_END >> FRAME_SHIFT, high_pages, "RAM from 4 GiB on"))


def is_qemu(command: Sequence[str]) -> bool:
    """Whether a command line is that of a QEMU with an x86 machine."""
    return bool(command) and _QEMU.fullmatch(PurePath(command[0]).name) is not None


def candidates(maps: Maps) -> list[MapEntry]:
    """Mappings that can be RAM, neighbours joined, the largest first.

    The kernel splits one where its parts are treated differently.
    """
    joined: list[MapEntry] = []
    for entry in maps.read():
        kind = maps.kind(entry)
        if not entry.writable or entry.executable or entry.name.startswith("["):
            continue
        if kind is Kind.OTHER or (kind is Kind.PRIVATE and not entry.anonymous):
            continue
        if joined and _continues(joined[-1], entry):
            joined[-1] = joined[-1]._replace(end=entry.end)
        else:
            joined.append(entry)
    return sorted(joined, key=lambda one: -one.size_bytes)


def find(maps: Maps, command: Sequence[str], *, low_bytes: int | None = None) -> GuestRam:
    """Where the RAM of a process's virtual machine lies.

    Args:
        maps: of the process.
        command: its command line.
        low_bytes: of its RAM lie below 4 GiB; None: as its machine has it.

    Raises:
        CannotRecord: nothing in it looks like RAM.
    """
    wanted_bytes = ram_bytes(command)
    least_bytes = wanted_bytes or _LEAST_RAM_BYTES
    found = [one for one in candidates(maps) if one.size_bytes >= least_bytes]
    if not found:
        raise CannotRecord(
            f"no mapping of this process holds {format_bytes(least_bytes)} of guest RAM; name it "
            "with --guest-ram, one of --list, or record the process with --guest-ram no"
        )
    if wanted_bytes is None:
        return split(found[0].start, found[0].end, command, low_bytes, "the largest mapping")
    end = found[-1].end
    why = f"the {format_bytes(wanted_bytes)} that QEMU has by its command line (-m)"
    return split(end - wanted_bytes, end, command, low_bytes, why)


def split(
    start: int, end: int, command: Sequence[str], low_bytes: int | None, why: str
) -> GuestRam:
    """RAM at known addresses; otherwise like `find`.

    Raises:
        BadOption: more of it shall lie below 4 GiB than there is, or not whole pages.
    """
    size_bytes = end - start
    if size_bytes <= 0 or start % FRAME_BYTES or end % FRAME_BYTES:
        raise BadOption(f"guest RAM from {start:x} to {end:x} is not a number of whole pages")
    if low_bytes is None:
        machine = machine_of(command)
        splits_from, low = _MACHINES[machine]
        low_bytes = low if size_bytes >= splits_from else size_bytes
        if low_bytes < size_bytes:
            why += f"; {format_bytes(low_bytes)} of it below 4 GiB, as {machine} machines have it"
    if low_bytes % FRAME_BYTES or not 0 < low_bytes <= min(size_bytes, _HOLE_END):
        raise BadOption(
            f"{format_bytes(low_bytes)} of RAM below 4 GiB cannot be: there are "
            f"{format_bytes(size_bytes)} of it"
        )
    return GuestRam(start, end, low_bytes, why)


def parse_range(text: str) -> tuple[int, int]:
    """Addresses as /proc/PID/maps and `--list` write them: START-END, hexadecimal.

    Raises:
        BadOption: something else.
    """
    match = re.fullmatch(r"(?:0x)?([0-9a-f]{1,16})-(?:0x)?([0-9a-f]{1,16})", text.strip().lower())
    if match is None:
        raise BadOption(f"guest RAM {text!r} is no range; write it like 7f0010000000-7f0020000000")
    return int(match[1], 16), int(match[2], 16)


def machine_of(command: Sequence[str]) -> str:
    """Which of the machines a command line asks for: pc unless it says otherwise."""
    for option, value in pairwise(command):
        if option.lstrip("-") in ("machine", "M"):
            for known in ("q35", "microvm"):
                if known in value.split(",")[0]:
                    return known
    return "pc"


def ram_bytes(command: Sequence[str]) -> int | None:
    """How much RAM a QEMU was told to have (-m); None when that cannot be read."""
    if not is_qemu(command):
        return None
    for option, value in pairwise(command):
        if option.lstrip("-") == "m":
            size = value.split(",")[0].removeprefix("size=")
            unit = _SIZE_DEFAULT_UNIT if size.isdigit() else ""
            try:
                return parse_size_bytes(size + unit)
            except BadOption:
                return None
    return _QEMU_DEFAULT_RAM_BYTES


def _continues(before: MapEntry, entry: MapEntry) -> bool:
    """Whether a mapping is the next part of the one before it."""
    if before.end != entry.start or before.shared != entry.shared:
        return False
    if before.inode != entry.inode or before.name != entry.name:
        return False
    return entry.anonymous or entry.offset == before.offset + before.size_bytes
