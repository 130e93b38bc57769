"""Tables of what a trace holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from pageferry.fitting import Fitted
from paging_core.footprint import frames_mapped, memory_for
from paging_core.text import printable
from paging_core.traces.profile import Pages, Profile
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import map_pages
from paging_core.traces.schema import INSTRUCTIONS
from paging_core.units import FRAME_BYTES, FRAME_SHIFT, PS_PER_NS, format_bytes, format_ns

Indices = npt.NDArray[np.intp]
_REGION_GAP_PAGES = 256
"""Pages further apart than 1 MiB are in different regions."""
_REGIONS_SHOWN = 24
_MOST_CHARS = 4096
"""Of a fact: a path, and free text of the trace."""


def facts(trace: TraceFile, found: Profile) -> Table:
    """The trace as a whole."""
    return fact_table(_facts(trace, found))


def fact_table(facts: Iterable[tuple[str, str]]) -> Table:
    """Names and values, some of which somebody else wrote."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(printable(value)[:_MOST_CHARS]))
    return table


def _facts(trace: TraceFile, found: Profile) -> Iterator[tuple[str, str]]:
    info = trace.info
    lap = format_ns(info.lap_ps / PS_PER_NS)
    counted = f"{info.instructions:,}"
    pages, written = len(found.pages), int(np.count_nonzero(found.writes))
    frames = frames_mapped(map_pages(found.pages, found.pages[:0], 0))
    mapped, taken = format_bytes(pages * FRAME_BYTES), format_bytes(frames * FRAME_BYTES)
    window = f"{info.window_instructions:,} {info.counts}"
    yield "trace", f"{trace.path}, {format_bytes(trace.size_bytes)}, xxh3 {trace.digest:016x}"
    yield "recorded", f"{info.tool}: {info.command or 'unknown'}"
    yield "instructions", counted if info.counts == INSTRUCTIONS else "not recorded"
    yield "replayed in", f"{lap}, at {info.instructions_per_second:,} {info.counts} a second"
    yield "accesses", f"{info.reads + info.writes:,}, of which {info.writes:,} write"
    yield "rows", f"{trace.n_rows:,}, of which {found.written_rows:,} write; windows of {window}"
    yield "pages", f"{pages:,}, of which {written:,} are written"
    yield "footprint", f"{mapped}, with page tables {taken}"
    yield "suggested", f"--memory {memory_for(frames) >> 20}MiB or more"


def regions(found: Profile) -> Fitted:
    """Parts of the address space that lie apart, the most written ones if there are many."""
    table = Fitted(("from", "to", "pages", "written", "size", "accesses", "writes"))
    parts, left_out = regions_of(found.pages, found.writes)
    for part in parts:
        _add_region(table, found, part)
    if left_out:
        table.note = f"and {left_out} regions that are written less"
    return table


def regions_of(pages: Pages, writes: Pages) -> tuple[list[Indices], int]:
    """Parts of ascending pages that lie apart, and how many more there are that are written less.

    Args:
        pages: int64, ascending.
        writes: int64, of each.
    """
    if not len(pages):
        return [], 0
    apart = np.flatnonzero(np.diff(pages) > _REGION_GAP_PAGES) + 1
    parts = np.split(np.arange(len(pages)), apart)
    shown = sorted(parts, key=lambda part: -int(writes[part].sum()))[:_REGIONS_SHOWN]
    return sorted(shown, key=lambda part: int(part[0])), len(parts) - len(shown)


def _add_region(table: Fitted, found: Profile, part: Indices) -> None:
    pages, writes = found.pages[part], found.writes[part]
    table.add(
        f"{int(pages[0]) << FRAME_SHIFT:#x}",
        f"{(int(pages[-1]) + 1) << FRAME_SHIFT:#x}",
        f"{len(pages):,}",
        f"{np.count_nonzero(writes):,}",
        format_bytes(len(pages) * FRAME_BYTES),
        f"{int(found.accesses[part].sum()):,}",
        f"{int(writes.sum()):,}",
    )
