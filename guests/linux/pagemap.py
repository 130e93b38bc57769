"""PAGEMAP_SCAN: ask which pages of a process were written, and protect those again, in one step.

Source of the numbers: Linux, include/uapi/linux/fs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from paging_core.errors import CannotTrack
from paging_core.units import FRAME_SHIFT

WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO, HUGE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6
"""Categories of pages."""
_WP_MATCHING, _CHECK_WPASYNC = 1 << 0, 1 << 1
_PAGEMAP_SCAN = 0xC0606610
_ARGUMENT = struct.Struct("12Q")
_WALK_END_BYTES = slice(32, 40)
_MOST_REGIONS = 1 << 14
_REGION = np.dtype([("start", np.uint64), ("end", np.uint64), ("categories", np.uint64)])


class Match(NamedTuple):
    """Which pages a scan is about: all of the categories `has`, none of `has_not`, one of `any_of`.

    Where nothing is, the kernel says WRITTEN and neither PRESENT nor SWAPPED. 0: no condition.
    """

    has: int
    has_not: int = 0
    any_of: int = 0


class Found(NamedTuple):
    """What a scan found.

    Attributes:
        pages: uint64, ascending: addresses >> 12.
        huge: of them, how many lie in huge pages.
    """

    pages: npt.NDArray[np.uint64]
    huge: int


class Pagemap:
    """The page table of a process as it is now; of a program that it executes later, nothing."""

    def __init__(self, pid: int) -> None:
        """Open it.

        Raises:
            OSError: no such process, or not permitted.
        """
        self._file = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._regions = np.zeros(_MOST_REGIONS, _REGION)

    def registered(self, address: int) -> bool:
        """Whether the mapping at an address is under an asynchronous userfaultfd.

        Raises:
            OSError: there is none there.
        """
        try:
            self._scan(address, address + (1 << FRAME_SHIFT), Match(WRITTEN), _CHECK_WPASYNC)
        except OSError as error:
            if error.errno == errno.EPERM:
                return False
            raise
        return True

    def take(self, start: int, end: int, match: Match) -> Found:
        """Find pages of a range and protect them, so that each is found again once it is written.

        Raises:
            OSError: the range cannot be.
        """
        return self._find(start, end, match, _WP_MATCHING)

    def peek(self, start: int, end: int, match: Match) -> Found:
        """Find pages of a range and leave them as they are; otherwise as `take`."""
        return self._find(start, end, match, 0)

    def close(self) -> None:
        """Close it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, start: int, end: int, match: Match, flags: int) -> Found:
        found = []
        while start < end:
            regions, start = self._scan(start, end, match, flags)
            if len(regions):
                found.append(regions.copy())
        if not found:
            return Found(np.zeros(0, np.uint64), 0)
        return _expanded(np.concatenate(found))

    def _scan(
        self, start: int, end: int, match: Match, flags: int
    ) -> tuple[npt.NDArray[np.void], int]:
        """The next regions, valid until the next scan, and where they end."""
        argument = bytearray(
            _ARGUMENT.pack(
                _ARGUMENT.size, flags, start, end, 0,
                self._regions.ctypes.data, _MOST_REGIONS, 0,
                match.has_not, match.has | match.has_not, match.any_of, match.has | HUGE,
            )
        )  # fmt: skip
        count = fcntl.ioctl(self._file, _PAGEMAP_SCAN, argument)
        (walked_to,) = struct.unpack("Q", argument[_WALK_END_BYTES])
        return self._regions[:count], walked_to


def check_kernel() -> None:
    """Ask this kernel whether it has PAGEMAP_SCAN.

    Raises:
        CannotTrack: it has not, or there is no /proc.
    """
    try:
        with Pagemap(os.getpid()) as own:
            own.peek(0, 1 << FRAME_SHIFT, Match(WRITTEN))
    except OSError as error:
        if error.errno == errno.ENOENT or not Path("/proc/self").exists():
            raise CannotTrack("there is no /proc/self/pagemap; mount /proc") from error
        raise CannotTrack(
            f"Linux {os.uname().release} has no PAGEMAP_SCAN ({error.strerror}); tracking needs "
            "6.7 or newer"
        ) from error


def _expanded(regions: npt.NDArray[np.void]) -> Found:
    """Pages of regions: each from its start to its end, once and ascending.

    One scan was seen to come back by some megabytes (Linux 6.18, memory that was being made into
    huge pages and written meanwhile): the kernel walks a range in pieces.
    """
    starts = regions["start"] >> np.uint64(FRAME_SHIFT)
    counts = (regions["end"] >> np.uint64(FRAME_SHIFT)) - starts
    firsts = np.cumsum(counts) - counts
    steps = np.arange(int(counts.sum()), dtype=np.uint64)
    pages = np.repeat(starts - firsts, counts.astype(np.int64)) + steps
    huge = int(counts[(regions["categories"] & np.uint64(HUGE)) != 0].sum())
    if len(pages) > 1 and not (pages[1:] > pages[:-1]).all():
        pages = np.unique(pages)
    return Found(pages, min(huge, len(pages)))
