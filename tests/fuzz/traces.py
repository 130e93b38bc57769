"""Traces of programs: the text they are imported from, and the file."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from pageferry.cli import written_show
from pageferry.cli.trace_show import facts, regions
from pageferry.cli.written_show import examined
from paging_core.traces.drmemtrace import import_drmemtrace
from paging_core.traces.importing.bitmaps import import_bitmaps
from paging_core.traces.importing.damon import import_damon
from paging_core.traces.importing.listing import import_csv, import_parquet
from paging_core.traces.lackey import import_lackey
from paging_core.traces.profile import profile
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import Replay
from paging_core.traces.written.profile import profile_of
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.replay import WrittenReplay
from paging_core.traces.written.schema import VM, Recording
from paging_core.workloads.ops import OP_DTYPE
from tests.fuzz.refusals import placed, refusals, scratch

_OPS = 3000
_MOST_FRAMES = 1 << 16
_GUEST = Recording(VM)
_WINDOW_NS = 10_000_000


def lackey(data: bytes) -> None:
    """What can be imported can be shown and replayed."""
    out = scratch() / "imported.parquet"
    with refusals():
        import_lackey(BytesIO(data), out)
        _use(TraceFile(str(out)))


def trace(data: bytes) -> None:
    """What opens as a trace can be shown and replayed, or says what is damaged."""
    with refusals():
        _use(TraceFile(str(placed(data, "trace.parquet"))))


def written(data: bytes) -> None:
    """What opens as a trace of written pages can be shown and replayed, or says what is damaged."""
    with refusals():
        _use_written(WrittenPagesFile(str(placed(data, "written.parquet"))))


def pages(data: bytes) -> None:
    """A list of touched pages: what can be imported can be shown and replayed."""
    out = scratch() / "pages.parquet"
    with refusals():
        if data.startswith(b"PAR1"):
            import_parquet(str(placed(data, "list.parquet")), out, _GUEST, _WINDOW_NS)
        else:
            import_csv(BytesIO(data), out, _GUEST, _WINDOW_NS)
        _use_written(WrittenPagesFile(str(out)))


def bitmaps(data: bytes) -> None:
    """Two rounds, the halves of the input."""
    half, out = len(data) // 2, scratch() / "bitmaps.parquet"
    files = [placed(data[:half], "0.bin"), placed(data[half:], "1.bin")]
    with refusals():
        import_bitmaps(files, out, Recording(VM, memory_bytes=1 << 20), _WINDOW_NS)
        _use_written(WrittenPagesFile(str(out)))


def damon(data: bytes) -> None:
    """What DAMON saw: what can be imported can be shown."""
    out = scratch() / "damon.parquet"
    with refusals():
        import_damon(BytesIO(data), out, _GUEST, written=len(data) % 2 == 0)
        profile_of(WrittenPagesFile(str(out)))


def drmemtrace(data: bytes) -> None:
    """The view tool's text: what can be imported can be shown and replayed."""
    out = scratch() / "drmemtrace.parquet"
    with refusals():
        import_drmemtrace(BytesIO(data), out)
        _use(TraceFile(str(out)))


def _use_written(opened: WrittenPagesFile) -> None:
    found = profile_of(opened)
    if len(found.pages) * opened.recording.frames_per_page > _MOST_FRAMES:
        return  # a replay maps the blocks around each of them: right, and slow
    shown = examined(opened)
    written_show.facts(shown)
    written_show.regions(shown)
    replay = WrittenReplay(opened, seed=1)
    ops = np.zeros(_OPS, OP_DTYPE)
    for position in (0, _OPS, 1 << 40):
        replay.fill(position, ops)


def _use(opened: TraceFile) -> None:
    found = profile(opened)
    facts(opened, found)
    regions(found)
    replay = Replay(opened, seed=1)
    replay.setup()
    ops = np.zeros(_OPS, OP_DTYPE)
    for position in (0, _OPS, opened.n_rows - 1):
        replay.fill(position, ops)
