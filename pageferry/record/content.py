"""What stands in written pages: whether a write changed anything.

Every page that is found written is read and digested, and compared with its digest when it was last
read. A page is read a moment *after* it was found. If the process writes it in that moment, the
digest is of neither window, so nothing is said about the page: not now, and not the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt

from pageferry.record.tracker import Pages, Written, page_ranges
from paging_core.digest import Digests, FrameKey, frame_digests, public_key
from paging_core.migration_key import KEY_BYTES, MigrationKey
from paging_core.traces.written.schema import CHANGED, NOT_MEASURED, SAME
from paging_core.units import FRAME_BYTES

_CHUNK_PAGES = 4096


def warm() -> None:
    """Compile what digests pages, or load it, before a process is attached to."""
    frame_digests(np.zeros((1, FRAME_BYTES), np.uint8), public_key())


class Contents:
    """Digests of the pages of one process, as it was when this was opened."""

    def __init__(self, pid: int) -> None:
        """Open its memory.

        Raises:
            OSError: no such process, or not permitted.
        """
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self._key = FrameKey.of(MigrationKey(os.urandom(KEY_BYTES)))
        (self._of_zeros,) = frame_digests(np.zeros((1, FRAME_BYTES), np.uint8), self._key)
        self._pages = np.zeros(0, np.uint64)
        self._digests = np.zeros(0, np.uint64)
        self._known = np.zeros(0, np.bool_)

    def compare(self, written: Written, written_since: Callable[[], Pages]) -> npt.NDArray[np.int8]:
        """Read pages that were written, and compare them with the last time.

        Args:
            written: the pages.
            written_since: asked when all are read: which were written again by then.

        Returns:
            int8, for each page: CHANGED, SAME or NOT_MEASURED.
        """
        pages = written.pages
        if not len(pages):
            return np.zeros(0, np.int8)
        digests, known = self._read(pages)
        known &= ~np.isin(pages, written_since(), assume_unique=True)
        before, was_known = self._before(written)
        answer = np.where(digests == before, SAME, CHANGED).astype(np.int8)
        answer[~(known & was_known)] = NOT_MEASURED
        self._keep(pages, digests, known)
        return answer

    def close(self) -> None:
        """Close its memory."""
        os.close(self._memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _before(self, written: Written) -> tuple[Digests, npt.NDArray[np.bool_]]:
        """What stood in pages when they were last read, and whether that is known.

        Fresh memory of the kernel holds zeros.
        """
        digests = np.full(len(written.pages), self._of_zeros, np.uint64)
        known = written.zeroed.copy()
        at, there = self._places(written.pages)
        digests[there], known[there] = self._digests[at[there]], self._known[at[there]]
        return digests, known

    def _places(self, pages: Pages) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Where pages stand among those that were read, and whether they do."""
        at = np.searchsorted(self._pages, pages)
        there = np.zeros(len(pages), np.bool_)
        inside = at < len(self._pages)
        there[inside] = self._pages[at[inside]] == pages[inside]
        return at, there

    def _keep(self, pages: Pages, digests: Digests, known: npt.NDArray[np.bool_]) -> None:
        at, there = self._places(pages)
        self._digests[at[there]], self._known[at[there]] = digests[there], known[there]
        new = ~there
        if new.any():
            self._pages = np.insert(self._pages, at[new], pages[new])
            self._digests = np.insert(self._digests, at[new], digests[new])
            self._known = np.insert(self._known, at[new], known[new])

    def _read(self, pages: Pages) -> tuple[Digests, npt.NDArray[np.bool_]]:
        """Digests, and whether each page could be read."""
        digests = np.zeros(len(pages), np.uint64)
        known = np.ones(len(pages), np.bool_)
        buffer = np.empty((min(_CHUNK_PAGES, len(pages)), FRAME_BYTES), np.uint8)
        for first in range(0, len(pages), _CHUNK_PAGES):
            part = pages[first : first + _CHUNK_PAGES]
            rows, could = buffer[: len(part)], known[first : first + len(part)]
            filled = 0
            for start, end in page_ranges(part):
                run = slice(filled, filled + end - start)
                self._read_run(rows[run], could[run], start)
                filled = run.stop
            digests[first : first + len(part)] = frame_digests(rows, self._key)
        return digests, known

    def _read_run(
        self, rows: npt.NDArray[np.uint8], could: npt.NDArray[np.bool_], page: int
    ) -> None:
        """Read successive pages into rows; those that have gone meanwhile could not be read."""
        flat = rows.reshape(-1)
        done_bytes = 0
        while done_bytes < flat.size:
            place = page * FRAME_BYTES + done_bytes
            try:
                read_bytes = os.preadv(self._memory, [flat[done_bytes:].data], place)
                if not read_bytes:  # the process has ended
                    could[done_bytes // FRAME_BYTES :] = False
                    return
                done_bytes += read_bytes
            except OSError:
                could[done_bytes // FRAME_BYTES] = False
                done_bytes = (done_bytes // FRAME_BYTES + 1) * FRAME_BYTES
