"""A trace of written pages as a workload: each page is written once in each of its windows.

The guest maps every aligned block of 2 MiB that has a page of the trace, whole, so that what a
page's neighbours are is what it was: by superpages for a virtual machine, as Linux's direct map
does, which keeps guest physical neighbours; by small pages at the program's own addresses for a
process. Pages of the trace hold data when it boots, for the recorded machine was running; their
neighbours are zeros.

What a recording of windows lacks, and a replay makes up: the order within a window (`timetable`),
of which it is only known, where both were recorded, that a page was read before it was written;
further accesses to a page within its window, how much of a page is written (a cache line), and
what (generated data). Whether a write changed anything is taken from the trace where it was
measured, and is SILENT_FRACTION otherwise.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadTrace
from paging_core.traces.replay import SILENT_FRACTION, map_pages
from paging_core.traces.schema import PAGES_TOP
from paging_core.traces.written.profile import WrittenProfile, profile_of
from paging_core.traces.written.reader import WrittenPagesFile, WrittenRows
from paging_core.traces.written.schema import CHANGED, NOT_MEASURED, VM
from paging_core.traces.written.timetable import Timetable
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import IDLE, MMAP_HUGE, Ops
from paging_core.workloads.randomness import UNIT, fill_draws_at, key_of
from paging_core.workloads.records import KIND_SHIFT, WORDS_SHIFT, as_rows

WORDS = 8
"""Of a write: a cache line. How much of a page a program wrote is not in the trace."""
LACKS = (
    "a trace of written pages has no order within a window, and no second write to a page there: "
    "they are written once each, evenly spaced, in an order made up"
)
_BLOCK_SHIFT = 9
_KEPT_GROUPS = 4
_SILENT_UNITS = round(SILENT_FRACTION * UNIT)
_Ints = npt.NDArray[np.int64]


class WrittenReplay:
    """A workload that runs a trace of written pages in laps.

    Attributes:
        spec: the trace by its content; not one that the catalog parses.
        digest: XXH3-64 of the trace's file.
        has_reads: the trace has rows that read.
    """

    def __init__(self, trace: WrittenPagesFile, seed: int) -> None:
        """Read the trace once, whole, so that nothing about it can be wrong later.

        Raises:
            BadTrace: something is.
        """
        self.digest = trace.digest
        self.spec = f"trace:xxh3_64={trace.digest:016x}"
        self._trace = trace
        self._groups: OrderedDict[int, WrittenRows] = OrderedDict()
        self._key = key_of(seed, "replayed data")
        self._parts = trace.recording.frames_per_page
        found = profile_of(trace)
        self.has_reads = found.read_rows > 0
        self._setup = setup_of(trace, found, key_of(seed, "content before the trace"))
        duration_ns = trace.description.duration_ns
        order = key_of(seed, "order within a window")
        self._timetable = Timetable(found.windows, duration_ns, self._parts, order)

    def close(self) -> None:
        """Close the trace's file; nothing can be filled any more."""
        self._groups.clear()
        self._trace.close()

    def setup(self) -> Ops:
        """Map every block, and put data into the pages of the trace."""
        return self._setup

    def fill(self, position: int, ops: Ops) -> None:
        """The operations from `position` on; the same ones however they are cut in pieces."""
        touches = self._timetable.at(position, len(ops))
        rows = as_rows(ops)
        rows[:, 0] = 0
        rows[:, 1] = touches.idle_ns
        rows[:, 2] = touches.gap_ps | (IDLE << KIND_SHIFT)
        at = np.flatnonzero(touches.row >= 0)
        if not len(at):
            return
        page, written, changed = self._reads_first(position + at, touches.row[at])
        first, second = self._draws(position + at)
        word = (first & 0x7FFFFFFF) % (WORDS_PER_FRAME + 1 - WORDS)
        frame = page * self._parts + touches.part[at]
        drawn = (second & (UNIT - 1)) < _SILENT_UNITS
        silent = np.where(changed == NOT_MEASURED, drawn, changed != CHANGED)
        kind = written.astype(np.int64) * (1 + silent)  # READ, WRITE, REWRITE are 0, 1, 2
        rows[at, 0] = (frame << FRAME_SHIFT) + (word << 3)
        rows[at, 1] = second
        rows[at, 2] = touches.gap_ps[at] | (WORDS << WORDS_SHIFT) | (kind << KIND_SHIFT)

    def _reads_first(
        self, position: _Ints, rows: _Ints
    ) -> tuple[_Ints, npt.NDArray[np.bool_], npt.NDArray[np.int8]]:
        """Page, written and changed of touches; of a page that is both, the read comes first.

        Its two rows stand beside each other, the read first. Where the timetable has the write
        earlier, the two change places.
        """
        page, written, changed = self._gather(rows)
        if not self.has_reads:
            return page, written, changed
        beside = np.clip(rows + np.where(written, -1, 1), 0, self._trace.n_rows - 1)
        other = self._gather(beside)
        order = self._timetable.order(position, beside)
        swap = (other[0] == page) & (other[1] != written) & (order == np.where(written, 1, -1))
        return page, np.where(swap, other[1], written), np.where(swap, other[2], changed)

    def _draws(self, positions: _Ints) -> tuple[_Ints, _Ints]:
        """Two independent random numbers for each position."""
        both = np.empty(2 * len(positions), np.int64)
        fill_draws_at(self._key, np.concatenate((2 * positions, 2 * positions + 1)), both)
        return both[: len(positions)], both[len(positions) :]

    def _gather(self, rows: _Ints) -> tuple[_Ints, npt.NDArray[np.bool_], npt.NDArray[np.int8]]:
        """Page, written and changed of rows anywhere in the trace."""
        page = np.empty(len(rows), np.int64)
        written, changed = np.empty(len(rows), np.bool_), np.empty(len(rows), np.int8)
        group = np.searchsorted(self._trace.starts, rows, side="right") - 1
        for number in np.unique(group).tolist():
            here = group == number
            within = rows[here] - self._trace.starts[number]
            found = self._group(number)
            page[here] = found.page[within].astype(np.int64)
            written[here], changed[here] = found.written[within], found.changed[within]
        return page, written, changed

    def _group(self, number: int) -> WrittenRows:
        if number not in self._groups:
            self._groups[number] = self._trace.group(number)
            if len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]


def setup_of(trace: WrittenPagesFile, found: WrittenProfile, key: int) -> Ops:
    """Operations that map what the trace touches, by whole blocks, and fill its pages.

    Args:
        trace: open.
        found: what it holds.
        key: of the random sequence that the data is drawn from.

    Raises:
        BadTrace: a page lies above the addresses that a guest's process has.
    """
    parts = trace.recording.frames_per_page
    frames = (found.pages[:, None] * parts + np.arange(parts)).ravel()
    if len(frames) and int(frames[-1]) >= PAGES_TOP:
        raise BadTrace(
            f"trace {trace.path}: page {int(found.pages[-1]):#x} lies at or above 2**47 bytes, "
            "where no process of a guest has memory; record or import it without such pages"
        )
    blocks = np.unique(frames >> _BLOCK_SHIFT)
    mapped = ((blocks << _BLOCK_SHIFT)[:, None] + np.arange(1 << _BLOCK_SHIFT)).ravel()
    ops = map_pages(mapped, frames, key)
    if trace.recording.recorded == VM:
        maps = ops["words"] == 0
        ops["kind"][maps] = MMAP_HUGE
    return ops
