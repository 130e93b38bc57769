"""Importing what DAMON saw: the text of ``damo report access --raw_form`` (``damo report raw``).

    base_time_absolute: 8 m 59.809 s
    data source: …

    monitoring_start:          104.599 ms
    monitoring_end:            208.590 ms
    monitoring_duration:       103.991 ms
    target_id: 18446623438842320000
    nr_regions: 16
    # start_addr     end_addr        length  nr_accesses   age
    563ebaa00000-563ebaaca000 ( 808.000 KiB)           0    -1
    …

A snapshot is a window. The pages of a region with accesses count as touched, all of them: DAMON
samples one page of a region and takes the others to be alike. It sees the Accessed bit, so it does
not tell writes from reads; whoever imports says which of the two they shall be. Times are those of
the text, which has three decimals unless ``--raw_number`` was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from paging_core.errors import BadTrace
from paging_core.traces.importing.lines import lines_of, refused
from paging_core.traces.written.schema import MOST_NS, Description, Recording
from paging_core.traces.written.writer import WrittenPagesWriter

FIRST_WORDS = b"base_time_absolute:"
MOST_WINDOW_PAGES = 1 << 24
"""Touched in a snapshot: 64 GiB of 4 KiB pages."""
_MOST_REGIONS = 1 << 20
_REGION = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) +\([^()]{1,24}\) +(\d{1,10}) +(-?\d{1,10})"
)
_FIELD = re.compile(
    rb"(monitoring_start|monitoring_end|monitoring_duration|target_id|nr_regions): +(.*)"
)
_PASSED_OVER = re.compile(rb"#.*|base_time_absolute: .*|data source: .*|intervals: .*|")
_TIME = re.compile(rb"(?:\d{1,9}(?:\.\d{1,3})? (?:h|m|s|ms|us|ns) ?){1,6}|\d{1,19}")
_PART = re.compile(rb"(\d+(?:\.\d+)?) ([a-z]+)")
_UNITS_NS = {b"h": 3600 * 10**9, b"m": 60 * 10**9, b"s": 10**9, b"ms": 10**6, b"us": 10**3,
             b"ns": 1}  # fmt: skip


class _Snapshots:
    """The text so far."""

    def __init__(
        self, writer: WrittenPagesWriter, page_bytes: int, target: str | None, *, written: bool
    ) -> None:
        self._writer, self._page_bytes, self._written = writer, page_bytes, written
        self._target = None if target is None else target.encode()
        self._wanted = self._target
        self._said: dict[bytes, bytes] = {}
        self._runs: list[tuple[int, int]] = []
        self._touched = 0
        self.end_ns = 0

    def line(self, line: bytes) -> str:
        """Take in a line; why it cannot be, or nothing."""
        if region := _REGION.fullmatch(line.strip()):
            return self._region(int(region[1], 16), int(region[2], 16), int(region[3]))
        if field := _FIELD.fullmatch(line.strip()):
            if field[1] == b"monitoring_start" and (why := self.flush()):
                return why
            self._said[field[1]] = field[2]
            return self._check_target(field[2]) if field[1] == b"target_id" else ""
        return "" if _PASSED_OVER.fullmatch(line.strip()) else "is none of damo's raw form"

    def flush(self) -> str:
        """Write the snapshot that ended; why it cannot be, or nothing."""
        said, runs = self._said, self._runs
        self._said, self._runs, self._touched = {}, [], 0
        if not said:
            return ""
        start, end = (_time_ns(said.get(name, b"")) for name in _BOTH)
        if self._wanted is not None and said.get(b"target_id") != self._wanted:
            return ""
        if not self.end_ns <= start < end <= MOST_NS:
            return "follows a snapshot without a time, or with one before the last snapshot's end"
        parts = [np.arange(first, last, dtype=np.uint64) for first, last in runs]
        pages = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))
        nothing = pages[:0]
        if self._written:
            self._writer.window(start, end, pages)
        else:
            self._writer.window(start, end, nothing, read=pages)
        self.end_ns = end
        return ""

    def _region(self, start: int, end: int, accesses: int) -> str:
        if b"monitoring_start" not in self._said:
            return "is a region before any monitoring_start"
        if start >= end:
            return "is a region that ends before it begins"
        if not accesses:
            return ""
        first, last = start // self._page_bytes, -(-end // self._page_bytes)
        self._touched += last - first
        if self._touched > MOST_WINDOW_PAGES or len(self._runs) > _MOST_REGIONS:
            return (
                f"brings the touched pages of a snapshot above {MOST_WINDOW_PAGES:,}; take "
                "larger pages, or record fewer regions"
            )
        self._runs.append((first, last))
        return ""

    def _check_target(self, found: bytes) -> str:
        if self._wanted is None:
            self._wanted = found
        if self._target is None and found != self._wanted:
            return "is of a second target; choose one: pageferry trace import damon --target"
        return ""


_BOTH = (b"monitoring_start", b"monitoring_end")


def import_damon(
    stream: BinaryIO,
    out: Path,
    recording: Recording,
    *,
    written: bool,
    target: str | None = None,
    name: str = "the input",
    progress: Callable[[int], None] = lambda _: None,
) -> Description:
    """Turn DAMON's raw form into a trace; `out` appears whole or not at all.

    Args:
        stream: the text, of any size.
        out: the Parquet file to write; one that is there is replaced.
        recording: what was recorded.
        written: touched pages count as written; otherwise as read.
        target: import the snapshots of this target_id alone; None: there is one.
        name: of the stream, for error messages.
        progress: told how many more bytes were read.

    Raises:
        BadTrace: a line that cannot be, named by its number; or `out` cannot be written.
    """
    number, line = 0, b""
    with WrittenPagesWriter(out) as writer:
        snapshots = _Snapshots(writer, recording.page_bytes, target, written=written)
        for number, line in lines_of(stream, name, progress):
            if why := snapshots.line(line):
                raise refused(name, number, line, why)
        if why := snapshots.flush():
            raise refused(name, number, line, why)
        if not snapshots.end_ns:
            raise BadTrace(f"{name} holds no snapshot{'' if target is None else ' of that target'}")
        return writer.finish(recording)


def _time_ns(text: bytes) -> int:
    """A time as damo writes it; -1 for anything else."""
    if not _TIME.fullmatch(text.strip()):
        return -1
    if text.strip().isdigit():
        return int(text)
    parts = _PART.findall(text)
    return round(sum(Fraction(number.decode()) * _UNITS_NS[unit] for number, unit in parts))
