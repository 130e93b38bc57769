"""A recorded program as a workload: the rows of its trace, in an address space of their own.

A page that the program read before it wrote it held something before it was recorded (code,
libraries, a file, its heap): the guest maps it while it boots, at the program's own address, with
data. Any other was born by the program's first write to it, and so it is here: the guest's kernel
hands it out at that write, as zeros. When the trace ends it begins again, as a server does that
never stops, with other data; nothing is born any more.
"""

from __future__ import annotations

import numpy as np

from paging_core.traces.kernels.replay_ops import Columns, Pace, fill_replayed
from paging_core.traces.profile import Pages, profile
from paging_core.traces.reader import TraceFile
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import MMAP, OP_DTYPE, WRITE, Ops
from paging_core.workloads.randomness import UNIT, fill_draws, key_of
from paging_core.workloads.records import as_rows

SILENT_FRACTION = 1 / 8
"""Writes that store what stood there. Lackey records no data, so this is an assumption:
between a fifth and two thirds of single stores are silent (Lepak and Lipasti, Silent stores
for free, 2000), and a row mostly stands for several, of which one that is not silent is
enough."""


class Replay:
    """A workload that runs a trace in laps: position p is row p modulo their number.

    Attributes:
        spec: the trace by its content; not one that the catalog parses.
        digest: XXH3-64 of the trace's file.
    """

    def __init__(self, trace: TraceFile, seed: int, *, demand_zero: bool = True) -> None:
        """Read the trace once, whole, so that nothing about it can be wrong later.

        Args:
            trace: to replay.
            seed: of the data.
            demand_zero: pages are born by their first write; else all are mapped at boot.

        Raises:
            BadTrace: something is.
        """
        self.digest = trace.digest
        self.spec = f"trace:xxh3_64={trace.digest:016x}"
        self._trace = trace
        self._pace = Pace(
            key_of(seed, "replayed data"),
            round(SILENT_FRACTION * UNIT),
            trace.info.ps_per_instruction,
        )
        found = profile(trace)
        key = key_of(seed, "content before the trace")
        old = found.pages[~found.born_written]
        self._pages = found.pages
        self._setup = map_pages(old if demand_zero else found.pages, old, key)
        self._last = int(trace.group(trace.n_groups - 1).instruction[-1])

    def close(self) -> None:
        """Close the trace's file; nothing can be filled any more."""
        self._trace.close()

    def setup(self) -> Ops:
        """Map the pages that are there when it begins, and fill those that held something."""
        return self._setup

    def footprint(self) -> Ops:
        """Operations that would map every page that it will use: the room that it needs."""
        return map_pages(self._pages, self._pages[:0], 0)

    def fill(self, position: int, ops: Ops) -> None:
        """The rows from `position` on; the same ones however they are cut in pieces."""
        starts, rows = self._trace.starts, as_rows(ops)
        at = 0
        while at < len(rows):
            lap, row = divmod(position + at, self._trace.n_rows)
            number = int(np.searchsorted(starts, row, side="right")) - 1
            columns = self._trace.group(number)
            first = row - int(starts[number])
            end = min(len(rows), at + len(columns.page) - first)
            before = self._before(lap, number, columns, first)
            fill_replayed(columns, first, before, position + at, self._pace, rows[at:end])
            at = end

    def _before(self, lap: int, number: int, columns: Columns, first: int) -> int:
        """The instruction of the row before one; of the last lap's end it is not positive."""
        if first > 0:
            return int(columns.instruction[first - 1])
        if number > 0:
            return int(self._trace.group(number - 1).instruction[-1])
        return self._last - self._trace.info.instructions if lap else 0


def map_pages(pages: Pages, filled: Pages, key: int) -> Ops:
    """Operations that map pages, a run of neighbours at a time, and write all of some.

    Args:
        pages: to map.
        filled: those of them to fill with data.
        key: of the random sequence that the data is drawn from.
    """
    if not len(pages):
        return np.zeros(0, OP_DTYPE)
    if not len(pages):
        return np.zeros(0, OP_DTYPE)
    breaks = np.flatnonzero(np.diff(pages) != 1) + 1
    first = np.concatenate(([0], breaks))
    runs = np.diff(np.concatenate((first, [len(pages)])))
    ops = np.zeros(len(first) + len(filled), OP_DTYPE)
    maps, writes = ops[: len(first)], ops[len(first) :]
    maps["address"] = pages[first] << FRAME_SHIFT
    maps["value"] = runs
    maps["kind"] = MMAP
    values = np.empty(len(filled), np.int64)
    fill_draws(key, 0, values)
    writes["address"] = filled << FRAME_SHIFT
    writes["value"] = values
    writes["words"] = WORDS_PER_FRAME
    writes["kind"] = WRITE
    return ops
