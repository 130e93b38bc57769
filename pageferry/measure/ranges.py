"""Which memory of a process is protected synchronously, and as which frames."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from guests.linux.handler_state import TrackedRange
from pageferry.record.errors import CannotRecord
from pageferry.record.guest_ram import GuestRam
from paging_core.units import FRAME_BYTES, FRAME_SHIFT, format_bytes

_MOST_FRAMES = 1 << 24
_LEAST_BYTES = 64 << 20
_Ints = npt.NDArray[np.int64]


class Ranges(NamedTuple):
    """Memory that is tracked, and what of the process is not.

    Attributes:
        tracked: runs of pages; groups are aligned by address, or by guest frame of a VM.
        left_out: names of mappings that could be written and are not tracked.
    """

    tracked: list[TrackedRange]
    left_out: list[str]

    @property
    def n_frames(self) -> int:
        """Frames that are tracked."""
        return sum(one.frames for one in self.tracked)

    def pages(self, frames: _Ints) -> npt.NDArray[np.uint64]:
        """Addresses >> 12 of frames, ascending as these do."""
        firsts = np.array([one.first for one in self.tracked], np.int64)
        starts = np.array([one.address >> FRAME_SHIFT for one in self.tracked], np.int64)
        at = np.searchsorted(firsts, frames, side="right") - 1
        return (starts[at] + frames - firsts[at]).astype(np.uint64)


def ranges_of(pid: int, ram: GuestRam) -> Ranges:
    """The RAM of a virtual machine.

    Never all that a process can write: when a thread ends, the kernel clears its number in the
    thread's own memory, and for that store it waits for no handler of faults (PF_EXITING in
    handle_userfault; seen on Linux 6.18). Were the page protected, whoever joins the
    thread would wait for ever.

    Raises:
        CannotRecord: the process has gone, or its RAM has huge pages or cannot be tracked so.
    """
    _check_no_stack(pid, ram)
    small, at = _of_small_pages(pid), ram.start
    for start, end in small:
        if start <= at < end:
            at = end
    if at < ram.end:
        raise CannotRecord(
            f"the RAM of process {pid} is not mapped at {at:x}, or with huge pages of hugetlbfs, "
            "of which 4 KiB cannot be let go alone; measure it with --tracking uffd-async"
        )
    frames = (ram.end - ram.start) >> FRAME_SHIFT
    return _checked(pid, Ranges([TrackedRange(ram.start, 0, frames)], []))


def _checked(pid: int, found: Ranges) -> Ranges:
    if found.n_frames > _MOST_FRAMES:
        raise CannotRecord(
            f"process {pid} has {found.n_frames * FRAME_BYTES >> 30} GiB of guest RAM, and "
            f"{_MOST_FRAMES * FRAME_BYTES >> 30} GiB at most are protected synchronously; measure "
            "it with --tracking uffd-async"
        )
    return found


def _check_no_stack(pid: int, ram: GuestRam) -> None:
    """Believe no mapping to be RAM that is so small that it can be the stack of a thread."""
    try:
        stack = resource.prlimit(pid, resource.RLIMIT_STACK)[0]
    except OSError as error:
        raise CannotRecord(f"process {pid} has ended, or may not be looked at") from error
    if ram.size_bytes < max(_LEAST_BYTES, 2 * max(0, stack)):
        raise CannotRecord(
            f"{format_bytes(ram.size_bytes)} can be the stack of a thread as well as RAM, and that "
            "cannot be protected synchronously; measure it with --tracking uffd-async"
        )


def _of_small_pages(pid: int) -> list[tuple[int, int]]:
    """Mappings whose pages have 4 KiB, ascending."""
    found: list[tuple[int, int]] = []
    start = end = 0
    try:
        text = Path(f"/proc/{pid}/smaps").read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise CannotRecord(f"process {pid} has ended ({error.strerror})") from error
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first and not first.endswith(":"):
            start, end = (int(one, 16) for one in first.split("-"))
        elif first == "KernelPageSize:" and rest.split() == ["4", "kB"]:
            found.append((start, end))
    return found
