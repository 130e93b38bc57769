"""Which pages a process wrote since it was last asked.

A private page is *written* when the process has a page of its own there that is not protected: a
page of a file that was only read, and the page of zeros that stands where memory was only read, are
not. Memory that nobody has touched has no page and needs no protection, so a large reservation
costs nothing.

A page of shared memory may be there before this process touches it, so protection is put on the
whole mapping, untouched pages as well: 8 bytes of page table for each.

Mappings are read again each time. One that is new is registered, and all that stands in it counts
as written: somebody wrote it since the last time.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from guests.linux.pagemap import FILE, PFNZERO, PRESENT, SWAPPED, WRITTEN, Found, Match, Pagemap
from guests.linux.userfaultfd import enable, protect, register
from pageferry.record.attach import Attached
from pageferry.record.errors import CannotRecord
from pageferry.record.mappings import Kind, MapEntry, Maps, can_have_written_pages
from paging_core.errors import CannotTrack
from paging_core.units import FRAME_SHIFT

Pages = npt.NDArray[np.uint64]
"""Addresses >> 12, ascending."""
_ANONYMOUS = Match(WRITTEN, has_not=PFNZERO, any_of=PRESENT | SWAPPED)
_COPIED = Match(WRITTEN, has_not=FILE | PFNZERO, any_of=PRESENT | SWAPPED)
"""Of a private file. Whether a page is the file's, the kernel finds out a hundred times slower."""
_SHARED = Match(WRITTEN)
_ANOTHER = "under another userfaultfd"


class Gone(Exception):
    """The memory that was tracked has gone: the process has ended, or executes another program."""


class Written(NamedTuple):
    """What was written since the last time.

    Attributes:
        pages: addresses >> 12.
        huge: of them, how many lie in huge pages, of which nobody knows which 4 KiB were written.
        zeroed: bool, as long: pages of anonymous memory, which begin as zeros.
    """

    pages: Pages
    huge: int
    zeroed: npt.NDArray[np.bool_]


class Tracker:
    """Asks which pages of a process were written. Closing it leaves the process as it was.

    Attributes:
        left_out: what is not recorded: names of mappings by the reason.
        seen: every mapping that was tracked: its name by start and end address.
    """

    def __init__(self, pid: int, attached: Attached, within: range | None = None) -> None:
        """Begin; nothing is protected before the first `take`.

        Args:
            pid: the process.
            attached: a userfaultfd of it, which is closed with this.
            within: addresses to track; None: all memory that it can write.

        Raises:
            CannotRecord: the process may not be read, or the kernel is too old.
        """
        self.left_out: defaultdict[str, set[str]] = defaultdict(set)
        self.seen: dict[tuple[int, int], str] = {}
        self._userfaultfd = attached.userfaultfd
        self._within = within
        self._tracked: list[tuple[MapEntry, Match]] = []
        try:
            enable(self._userfaultfd)
            self._maps, self._pagemap = Maps(pid), Pagemap(pid)
        except CannotTrack:
            os.close(self._userfaultfd)
            raise
        except OSError as error:
            os.close(self._userfaultfd)
            raise CannotRecord(
                f"the memory of process {pid} cannot be read ({error.strerror}); run as root, or "
                "as the user whose process it is"
            ) from error

    def take(self) -> Written:
        """What was written since the last call, all of it protected again.

        The first call protects what there is, and gives all that was ever written.

        Raises:
            Gone: the process has ended, or executes another program.
            CannotRecord: somebody else has all of its memory under a userfaultfd.
        """
        self._tracked = []
        found, zeroed = [], []
        entries = self._maps.read()
        if not entries:
            raise Gone
        for entry in entries:
            one = self._clipped(entry)
            pages = self._taken(one) if one else None
            if one is None or pages is None:
                continue
            found.append(pages)
            zeroed.append(np.full(len(pages.pages), one.anonymous and not one.shared))
            self.seen[one.start, one.end] = one.name
        if not found and _ANOTHER in self.left_out:
            raise CannotRecord(
                "all of its memory is under another userfaultfd (another recorder, a post-copy "
                "migration); end that first"
            )
        return Written(
            np.concatenate([np.zeros(0, np.uint64), *(one.pages for one in found)]),
            sum(one.huge for one in found),
            np.concatenate([np.zeros(0, np.bool_), *zeroed]),
        )

    def written_since(self) -> Pages:
        """What was written since the last `take`, which goes on counting from there."""
        found = [np.zeros(0, np.uint64)]
        for entry, match in self._tracked:
            try:
                found.append(self._pagemap.peek(entry.start, entry.end, match).pages)
            except OSError:
                continue  # unmapped meanwhile
        return np.concatenate(found)

    def close(self) -> None:
        """Let the process be: the kernel takes every protection away."""
        os.close(self._userfaultfd)
        self._maps.close()
        self._pagemap.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clipped(self, entry: MapEntry) -> MapEntry | None:
        """The part of a mapping that is tracked."""
        if self._within is None:
            return entry
        start = max(entry.start, self._within.start)
        end = min(entry.end, self._within.stop)
        return entry._replace(start=start, end=end) if start < end else None

    def _taken(self, entry: MapEntry) -> Found | None:
        """Pages of one mapping; None when it is not tracked."""
        kind = self._maps.kind(entry)
        if kind is Kind.OTHER:
            if entry.writable:
                self.left_out["a file on a disk that is shared, or a device"].add(entry.name)
            return None
        try:
            registered = self._pagemap.registered(entry.start)
            if registered and (entry.start, entry.end) in self.seen:
                return self._taken_again(entry, kind)
            if not registered and not can_have_written_pages(entry):
                return None
            # Of one that is registered, this finds out whether it is by us.
            register(self._userfaultfd, entry.start, entry.end)
            return self._taken_again(entry, kind) if registered else self._taken_first(entry, kind)
        except OSError as error:
            self._note(entry, error)
            return None

    def _taken_again(self, entry: MapEntry, kind: Kind) -> Found:
        match = _SHARED
        if kind is Kind.PRIVATE:
            match = _ANONYMOUS if entry.anonymous else _COPIED
        self._tracked.append((entry, match))
        return self._pagemap.take(entry.start, entry.end, match)

    def _taken_first(self, entry: MapEntry, kind: Kind) -> Found:
        if kind is Kind.PRIVATE:
            return self._taken_again(entry, kind)
        self._tracked.append((entry, _SHARED))
        protect(self._userfaultfd, entry.start, entry.end)
        return self._pagemap.peek(entry.start, entry.end, Match(PRESENT))

    def _note(self, entry: MapEntry, error: OSError) -> None:
        name = entry.name or f"anonymous memory at {entry.start:x}"
        if error.errno == errno.EBUSY:
            self.left_out[_ANOTHER].add(name)
        elif error.errno == errno.EPERM:
            self.left_out["mapped read-only for ever"].add(name)
        # Anything else: it was unmapped since the mappings were read.


def page_ranges(pages: Pages) -> list[tuple[int, int]]:
    """Runs of successive pages, each as its first page and the one behind its last."""
    if not len(pages):
        return []
    cuts = np.flatnonzero(np.diff(pages) != 1) + 1
    firsts = pages[np.concatenate(([0], cuts))]
    lasts = pages[np.concatenate((cuts - 1, [len(pages) - 1]))]
    return [(first, last + 1) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]


def address_of(page: int) -> int:
    """Where a page begins."""
    return page << FRAME_SHIFT
