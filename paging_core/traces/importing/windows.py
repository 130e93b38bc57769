"""From single touches of pages, ascending in time, to the windows of a trace of written pages."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadOption
from paging_core.traces.written.schema import (
    MOST_NS,
    PAGE_SIZES,
    PROCESS,
    VM,
    Description,
    Recording,
)
from paging_core.traces.written.writer import WrittenPagesWriter

_MOST_WAITING = 1 << 20
"""Touches of the current window that are kept before they are made different ones."""
_Ints = npt.NDArray[np.int64]
_Pages = npt.NDArray[np.uint64]
_Bools = npt.NDArray[np.bool_]


def recording_of(
    recorded: str, page_bytes: int, command: str, how: str, memory_bytes: int = 0
) -> Recording:
    """What an importer was told of a recording.

    Raises:
        BadOption: neither a process nor a virtual machine, or a size that no page has.
    """
    if recorded not in (PROCESS, VM):
        raise BadOption(f"what was recorded is {PROCESS} or {VM}, not {recorded}")
    if page_bytes not in PAGE_SIZES:
        raise BadOption("a page has 4KiB, 64KiB or 2MiB; pageferry trace import … --page-size 4KiB")
    return Recording(recorded, page_bytes, command, how, memory_bytes)


class Windows:
    """Windows of one length, as touches come in.

    Memory grows with the different pages of a window, and with nothing else.
    """

    def __init__(self, writer: WrittenPagesWriter, window_ns: int) -> None:
        """Begin at time 0.

        Raises:
            BadOption: a window that is no time, or longer than a recording can be.
        """
        if not 1 <= window_ns <= MOST_NS:
            raise BadOption(f"a window of {window_ns} ns is not from 1 ns to 104 days")
        self._writer = writer
        self._window_ns = window_ns
        self._current = 0
        self._pages: list[_Pages] = []
        self._written: list[_Bools] = []
        self._waiting = 0

    def touch(self, time_ns: _Ints, pages: _Pages, written: _Bools) -> None:
        """Take in touches.

        Args:
            time_ns: int64, since the recording began, ascending from the last call on.
            pages: uint64.
            written: false: they were read.
        """
        number = time_ns // self._window_ns
        cuts = np.flatnonzero(np.diff(number)) + 1
        for part in np.split(np.arange(len(number)), cuts) if len(number) else ():
            if number[part[0]] != self._current:
                self._flush()
                self._current = int(number[part[0]])
            self._keep(pages[part], written[part])

    def finish(self, recording: Recording) -> Description:
        """Write what is left, and the end: that of the last window.

        Raises:
            BadTrace: see `WrittenPagesWriter.finish`.
        """
        self._flush()
        windows = self._current + 1
        return self._writer.finish(recording, windows * self._window_ns, windows)

    def _keep(self, pages: _Pages, written: _Bools) -> None:
        self._pages.append(pages)
        self._written.append(written)
        self._waiting += len(pages)
        if self._waiting > _MOST_WAITING:
            kept = self._different()
            self._pages = [*kept]
            self._written = [np.full(len(one), i == 0) for i, one in enumerate(kept)]
            self._waiting = 0

    def _different(self) -> tuple[_Pages, _Pages]:
        """Pages written and pages read, each once, ascending."""
        pages, written = np.concatenate(self._pages), np.concatenate(self._written)
        return np.unique(pages[written]), np.unique(pages[~written])

    def _flush(self) -> None:
        if not self._pages:
            return
        written, read = self._different()
        start_ns = self._current * self._window_ns
        self._writer.window(start_ns, start_ns + self._window_ns, written, read=read)
        self._pages, self._written, self._waiting = [], [], 0
