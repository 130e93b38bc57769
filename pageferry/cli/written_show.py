"""What a trace of written pages holds: tables, and the same as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from pageferry.cli.trace_show import fact_table, regions_of
from pageferry.fitting import Fitted
from paging_core.footprint import frames_mapped, memory_for
from paging_core.traces.written.profile import WrittenProfile, profile_of
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.replay import LACKS, setup_of
from paging_core.traces.written.schema import VM
from paging_core.traces.written.summary import Summary, summary_of
from paging_core.units import FRAME_BYTES, format_bytes, format_ns


class Shown(NamedTuple):
    """Everything that is shown of a trace.

    Attributes:
        trace: open.
        found: its pages and windows.
        summary: in a few numbers.
        frames: that its pages take in a guest, with the blocks around them and page tables.
    """

    trace: WrittenPagesFile
    found: WrittenProfile
    summary: Summary
    frames: int


def examined(trace: WrittenPagesFile) -> Shown:
    """Read all of a trace.

    Raises:
        BadTrace: it cannot be replayed.
    """
    found = profile_of(trace)
    frames = frames_mapped(setup_of(trace, found, 0))
    return Shown(trace, found, summary_of(trace, found), frames)


def facts(shown: Shown) -> Table:
    """The trace as a whole."""
    return fact_table(_facts(shown))


def regions(shown: Shown) -> Fitted:
    """Parts of the address space that lie apart, the most written ones if there are many."""
    found, page_bytes = shown.found, shown.trace.recording.page_bytes
    table = Fitted(("from", "to", "pages", "written", "size", "writes"))
    parts, left_out = regions_of(found.pages, found.windows_written)
    for part in parts:
        pages, writes = found.pages[part], found.windows_written[part]
        table.add(
            f"{int(pages[0]) * page_bytes:#x}",
            f"{(int(pages[-1]) + 1) * page_bytes:#x}",
            f"{len(pages):,}",
            f"{np.count_nonzero(writes):,}",
            format_bytes(len(pages) * page_bytes),
            f"{int(writes.sum()):,}",
        )
    if left_out:
        table.note = f"and {left_out} regions that are written less"
    return table


def _facts(shown: Shown) -> Iterator[tuple[str, str]]:
    trace, found, summary = shown.trace, shown.found, shown.summary
    recording, extent = trace.recording, trace.description
    memory = format_bytes(recording.memory_bytes) if recording.memory_bytes else "unknown size"
    what = "a virtual machine" if recording.recorded == VM else "a process"
    mean = extent.duration_ns // extent.windows
    pages = f"{summary.pages_written:,} written, {summary.pages_read:,} only read"
    rate = format_bytes(round(summary.dirty_bytes_per_s))
    yield "trace", f"{trace.path}, {format_bytes(trace.size_bytes)}, xxh3 {trace.digest:016x}"
    yield "recorded", f"{what} of {memory}: {recording.command or 'nobody knows which'}"
    yield "how", recording.how or "nobody knows"
    yield (
        "length",
        f"{format_ns(extent.duration_ns)}, {extent.windows:,} windows, {format_ns(mean)} each",
    )
    yield "page size", format_bytes(recording.page_bytes)
    yield "pages", pages
    yield (
        "per window",
        f"{summary.least:,} to {summary.most:,} written, median {summary.median:,.0f}",
    )
    yield "dirty rate", f"{rate}/s, at this length of windows"
    yield "density", _density(summary)
    yield "silent", _silent(summary, found)
    yield "replayed", f"under HAP{' and shadow paging' if found.read_rows else ''}; {LACKS}"
    yield "footprint", f"{format_bytes(shown.frames * FRAME_BYTES)} with neighbours and page tables"
    yield "suggested", f"--memory {memory_for(shown.frames) >> 20}MiB or more"


def _density(summary: Summary) -> str:
    known = [f"{each:.1f} of {n}" for n, each in summary.density.items() if each is not None]
    return f"{', '.join(known) or 'not known'} frames of a touched group are written in a window"


def _silent(summary: Summary, found: WrittenProfile) -> str:
    if summary.silent_share is None:
        return "not measured; a replay takes one write in eight for one that changes nothing"
    return (
        f"{100 * summary.silent_share:.1f} % of {found.measured:,} written pages held the same at "
        "their window's end"
    )


def document_of(shown: Shown) -> dict[str, Any]:
    """The same facts, and in how many windows each page was written."""
    trace, found, summary = shown.trace, shown.found, shown.summary
    recording, extent = trace.recording, trace.description
    return {
        "schema": {"name": "pageferry.written-pages", "version": 1},
        "file": Path(trace.path).name,
        "size_bytes": trace.size_bytes,
        "xxh3_64": f"{trace.digest:016x}",
        "recorded": recording.recorded,
        "command": recording.command,
        "how": recording.how,
        "memory_bytes": recording.memory_bytes or None,
        "page_bytes": recording.page_bytes,
        "duration_ns": extent.duration_ns,
        "windows": extent.windows,
        "written_rows": found.written_rows,
        "read_rows": found.read_rows,
        "pages_written": summary.pages_written,
        "pages_only_read": summary.pages_read,
        "written_per_window": {
            "least": summary.least,
            "median": summary.median,
            "most": summary.most,
        },
        "dirty_bytes_per_s": summary.dirty_bytes_per_s,
        "density": {str(n): each for n, each in summary.density.items()},
        "silent_share": summary.silent_share,
        "measured_rows": found.measured,
        "with_tables_bytes": shown.frames * FRAME_BYTES,
        "suggested_memory_bytes": memory_for(shown.frames),
        "by_page": {
            "page": found.pages.tolist(),
            "windows_written": found.windows_written.tolist(),
        },
    }
