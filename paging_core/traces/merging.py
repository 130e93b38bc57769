"""What was read, from a second source, merged into a trace of written pages.

A recorder of written pages sees no reads, and shadow paging works for reads as well. The second
source is a trace of accesses (lackey, drmemtrace) or of pages read in windows (DAMON, idle pages).
The first one alone says what was written and when; the second adds rows that read.

* Both begin together. A second source that ends early is refused, or stretched over the first.
* A window of the first holds each page at most once as read: of accesses, if it was read in that
  time; of windows, evenly spaced over the source's window, in the order of their numbers.
* Read and written in one window, a page is read first, and so it is replayed. Accesses know
  better: where they write the page before they read it in that window, the read found what
  the write had built, and is left out.
* Time between the first one's windows, in which nothing was written, is cut into windows as long as
  its windows are on average.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadTrace
from paging_core.traces.opening import open_trace
from paging_core.traces.reader import TraceFile
from paging_core.traces.written.profile import WrittenProfile, profile_of
from paging_core.traces.written.reader import Window, WrittenPagesFile
from paging_core.traces.written.schema import MOST_NS, PROCESS, Description
from paging_core.traces.written.writer import DEFAULT_ZSTD_LEVEL, WrittenPagesWriter
from paging_core.units import FRAME_BYTES, PS_PER_NS, format_ns

LEAST_SHARE = 0.5
"""Of the written pages, those that the second source has to touch to be of one address space."""
_LEAST_COVERED = 0.9
"""Of the first one's time, what the second has to last if it is not stretched."""
_Ints = npt.NDArray[np.int64]
_Pages = npt.NDArray[np.uint64]
_Bools = npt.NDArray[np.bool_]


class Merged(NamedTuple):
    """What came of it.

    Attributes:
        description: of the new trace.
        reads: rows that read.
        behind_writes: reads that were left out, because the page had been written before.
        share: of the pages that are written, those that the second source touches.
    """

    description: Description
    reads: int
    behind_writes: int
    share: float


class _Touches(NamedTuple):
    """Touches of the second source, in its order.

    Attributes:
        time_ns: int64, ascending, on the first one's clock.
        page: uint64, numbered as the first one's.
        written: false: read.
    """

    time_ns: _Ints
    page: _Pages
    written: _Bools

    def part(self, first: int, end: int | None) -> _Touches:
        return _Touches._make(column[first:end] for column in self)


def merge_reads(
    written: str,
    reads: str,
    out: Path,
    *,
    stretched: bool = False,
    least_share: float = LEAST_SHARE,
    zstd_level: int = DEFAULT_ZSTD_LEVEL,
) -> Merged:
    """Write a trace of written pages anew, with what a second source saw read.

    Both files are read twice, a row group at a time: first whether they fit. Memory grows with
    their pages and with what the largest window holds.

    Args:
        written: path of a trace of written pages.
        reads: path of a trace of accesses, or of one of written pages with rows that read.
        out: the trace to write.
        stretched: spread the second over the time of the first, whatever its own length.
        least_share: see `LEAST_SHARE`; 0 takes any.
        zstd_level: 1 to 22.

    Raises:
        BadTrace: one of them cannot be read or is of the wrong kind; they do not fit, in kind,
            page size, length or addresses; or nothing can be written there.
    """
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(open_trace(one))) for one in (written, reads))
        if isinstance(first, TraceFile):
            raise BadTrace(
                f"trace {written}: it has every access, reads among them; it is replayed under "
                "shadow paging as it is"
            )
        ratio = _pages_ratio(first, second)
        length_ns = _checked_length(first, second, stretched=stretched)
        share = _checked_share(first, second, ratio, least_share)
        scale = first.description.duration_ns / length_ns if stretched else 1.0
        source = _Source(_touches(second, ratio, scale))
        with WrittenPagesWriter(out, zstd_level=zstd_level) as writer:
            added = left_out = 0
            for window, behind in _merged(first, source):
                writer.window(*window)
                added, left_out = added + len(window.read), left_out + behind
            if not added:
                raise BadTrace(f"trace {reads}: nothing is read in it; take one that has reads")
            how = f"{first.recording.how}; {_how(second)}{', stretched' if stretched else ''}"
            extent = first.description
            made = writer.finish(
                replace(first.recording, how=how.removeprefix("; ")),
                extent.duration_ns,
                extent.windows,
            )
    return Merged(made, added, left_out, share)


def _how(second: TraceFile | WrittenPagesFile) -> str:
    if isinstance(second, TraceFile):
        return f"reads: {second.info.tool}"
    return f"reads: {second.recording.how or 'from a second source'}"


def _pages_ratio(first: WrittenPagesFile, second: TraceFile | WrittenPagesFile) -> int:
    """How many pages of the second are one of the first."""
    kind, page_bytes = PROCESS, FRAME_BYTES
    if isinstance(second, WrittenPagesFile):
        kind, page_bytes = second.recording.recorded, second.recording.page_bytes
    wanted = first.recording
    if kind != wanted.recorded:
        raise BadTrace(
            f"trace {second.path}: its pages are those of a {kind}, and those of {first.path} of a "
            f"{wanted.recorded}; take reads of the same"
        )
    if page_bytes > wanted.page_bytes:
        raise BadTrace(
            f"trace {second.path}: its pages have {page_bytes} bytes, and those of {first.path} "
            f"{wanted.page_bytes}; take reads of pages as small"
        )
    return wanted.page_bytes // page_bytes


def _checked_length(
    first: WrittenPagesFile, second: TraceFile | WrittenPagesFile, *, stretched: bool
) -> int:
    """How long the second is, ns."""
    whole_ns = first.description.duration_ns
    if isinstance(second, TraceFile):
        length_ns = max(1, second.info.lap_ps // PS_PER_NS)
    else:
        length_ns = second.description.duration_ns
    if length_ns > MOST_NS:
        raise BadTrace(f"trace {second.path}: it is longer than 104 days; import it to run faster")
    if not stretched and length_ns < _LEAST_COVERED * whole_ns:
        raise BadTrace(
            f"trace {second.path}: it lasts {format_ns(length_ns)} and {first.path} "
            f"{format_ns(whole_ns)}, so that nobody knows what was read later; record it as long, "
            "or spread it over all of that with: --time stretched"
        )
    return length_ns


def _checked_share(
    first: WrittenPagesFile, second: TraceFile | WrittenPagesFile, ratio: int, least: float
) -> float:
    """Of the pages that the first writes, how many the second touches."""
    profile = profile_of(first)
    pages = profile.pages[profile.windows_written > 0]
    touched = np.isin(pages, _pages_of(second) // ratio, assume_unique=False)
    share = float(touched.mean()) if len(pages) else 1.0
    if share < least:
        raise BadTrace(
            f"of {len(pages):,} pages that are written in {first.path}, {second.path} touches "
            f"{share:.0%}: they are of different runs or address spaces; record both with the same "
            "addresses (setarch -R), or take them all the same with: "
            "--least-share 0"
        )
    return share


def _pages_of(second: TraceFile | WrittenPagesFile) -> _Ints:
    if isinstance(second, WrittenPagesFile):
        found: WrittenProfile = profile_of(second)
        return found.pages
    pages = np.zeros(0, np.int64)
    for number in range(second.n_groups):
        pages = np.union1d(pages, second.group(number).page)
    return pages


def _touches(second: TraceFile | WrittenPagesFile, ratio: int, scale: float) -> Iterator[_Touches]:
    """All touches, some at a time."""
    parts = _accesses(second) if isinstance(second, TraceFile) else _spread(second)
    for time_ns, page, written in parts:
        when = (time_ns * scale).astype(np.int64) if scale != 1.0 else time_ns
        yield _Touches(when, page.astype(np.uint64) // np.uint64(ratio), written)


def _accesses(trace: TraceFile) -> Iterator[tuple[_Ints, _Ints, _Bools]]:
    for number in range(trace.n_groups):
        rows = trace.group(number)
        time_ns = rows.instruction * trace.info.ps_per_instruction // PS_PER_NS
        yield time_ns, rows.page, rows.write.astype(np.bool_)


def _spread(trace: WrittenPagesFile) -> Iterator[tuple[_Ints, _Pages, _Bools]]:
    """Pages that were read in a window, evenly over it: when in it, nobody knows."""
    for window in trace.windows():
        count = len(window.read)
        if count:
            step = (window.end_ns - window.start_ns) / count
            time_ns = window.start_ns + ((np.arange(count) + 0.5) * step).astype(np.int64)
            yield time_ns, window.read, np.zeros(count, np.bool_)


class _Source:
    """Touches in their order, taken up to a time."""

    def __init__(self, parts: Iterator[_Touches]) -> None:
        self._parts = parts
        self._rest = _Touches(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.bool_))

    def next_ns(self) -> int | None:
        """When the next touch is; None: there is none."""
        while not len(self._rest.page):
            part = next(self._parts, None)
            if part is None:
                return None
            self._rest = part
        return int(self._rest.time_ns[0])

    def before(self, end_ns: int) -> _Touches:
        """Take those that come before a time."""
        taken = [self._rest.part(0, 0)]
        while (when := self.next_ns()) is not None and when < end_ns:
            cut = int(np.searchsorted(self._rest.time_ns, end_ns))
            taken.append(self._rest.part(0, cut))
            self._rest = self._rest.part(cut, None)
        return _Touches._make(np.concatenate(column) for column in zip(*taken, strict=True))


def _merged(first: WrittenPagesFile, source: _Source) -> Iterator[tuple[Window, int]]:
    """The windows of the new trace, and how many reads each has left out."""
    extent = first.description
    mean_ns = max(1, extent.duration_ns // extent.windows)
    end_ns = 0
    for window in first.windows():
        yield from _between(source, end_ns, window.start_ns, mean_ns)
        end_ns = window.end_ns
        read, behind = _read_in(source.before(end_ns), window.written)
        yield window._replace(read=np.union1d(window.read, read)), behind
    yield from _between(source, end_ns, extent.duration_ns, mean_ns)


def _between(
    source: _Source, start_ns: int, end_ns: int, mean_ns: int
) -> Iterator[tuple[Window, int]]:
    """Windows between two of the first, in which nothing was written, as far as they have reads."""
    none = np.zeros(0, np.uint64)
    while (when := source.next_ns()) is not None and when < end_ns:
        begins_ns = start_ns + max(0, when - start_ns) // mean_ns * mean_ns
        ends_ns = min(end_ns, begins_ns + mean_ns)
        read, _ = _read_in(source.before(ends_ns), none)
        yield Window(begins_ns, ends_ns, none, np.zeros(0, np.int8), read), 0


def _read_in(touches: _Touches, written: _Pages) -> tuple[_Pages, int]:
    """Pages that are read in a window, ascending, and how many were left out."""
    read, read_at = _first(touches, written=False)
    wrote, wrote_at = _first(touches, written=True)
    at = np.searchsorted(wrote, read)
    known = at < len(wrote)
    known[known] = wrote[at[known]] == read[known]
    earlier = np.zeros(len(read), np.bool_)
    earlier[known] = wrote_at[at[known]] < read_at[known]
    behind = earlier & np.isin(read, written, assume_unique=True)
    return read[~behind], int(np.count_nonzero(behind))


def _first(touches: _Touches, *, written: bool) -> tuple[_Pages, npt.NDArray[np.intp]]:
    """Each page that is written, or read, and which of the touches is the first that does it."""
    at = np.flatnonzero(touches.written == written)
    pages, first = np.unique(touches.page[at], return_index=True)
    return pages, at[first]
