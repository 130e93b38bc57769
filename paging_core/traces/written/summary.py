"""A trace of written pages in a few numbers: how much is written, how fast, how densely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.traces.written.profile import WrittenProfile
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.units import NS_PER_S

GROUPS = (4, 16, 64, 512)
"""Frames of a group, of which density is said."""


class Summary(NamedTuple):
    """What a recording says of the guest.

    Attributes:
        least, median, most: pages written in a window; windows in which none was are counted.
        pages_written: of all the recording, each once.
        pages_read: those that were only read.
        dirty_bytes_per_s: pages written per window, as bytes, over the recording's time. A page
            that is written in two windows counts twice, so shorter windows give a higher rate.
        silent_share: of the written pages that were measured, those whose content was the same at
            the window's end; None: nothing was measured.
        density: per group size, frames written in a window per aligned group of so many frames
            that has one; None where a page is as large as the group.
    """

    least: int
    median: float
    most: int
    pages_written: int
    pages_read: int
    dirty_bytes_per_s: float
    silent_share: float | None
    density: Mapping[int, float | None]


def summary_of(trace: WrittenPagesFile, found: WrittenProfile) -> Summary:
    """Read a trace once more, window by window.

    Args:
        trace: open.
        found: what `profile_of` found in it.

    Raises:
        BadTrace: a row is damaged or impossible.
    """
    described = trace.description
    empty = described.windows - len(found.windows.written)
    written = np.concatenate((np.zeros(empty, np.int64), found.windows.written))
    bytes_written = found.written_rows * trace.recording.page_bytes
    n_written = int(np.count_nonzero(found.windows_written))
    return Summary(
        int(written.min()),
        float(np.median(written)),
        int(written.max()),
        n_written,
        len(found.pages) - n_written,
        bytes_written * NS_PER_S / described.duration_ns,
        found.same / found.measured if found.measured else None,
        _density(trace, found.written_rows),
    )


def _density(trace: WrittenPagesFile, written_rows: int) -> dict[int, float | None]:
    parts = trace.recording.frames_per_page
    sizes = [n for n in GROUPS if n > parts and written_rows]
    groups = dict.fromkeys(sizes, 0)
    for window in trace.windows() if sizes else ():
        for n in sizes:
            groups[n] += _distinct(window.written // np.uint64(n // parts))
    return {n: written_rows * parts / groups[n] if n in groups else None for n in GROUPS}


def _distinct(ascending: npt.NDArray[np.uint64]) -> int:
    if not len(ascending):
        return 0
    return 1 + int(np.count_nonzero(ascending[1:] != ascending[:-1]))
