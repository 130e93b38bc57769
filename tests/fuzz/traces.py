"""Traces of programs: the text they are imported from, and the file."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from pageferry.cli.trace_show import facts, regions
from paging_core.traces.lackey import import_lackey
from paging_core.traces.profile import profile
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import Replay
from paging_core.workloads.ops import OP_DTYPE
from tests.fuzz.refusals import placed, refusals, scratch

_OPS = 3000


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


def _use(opened: TraceFile) -> None:
    found = profile(opened)
    facts(opened, found)
    regions(found)
    replay = Replay(opened, seed=1)
    replay.setup()
    ops = np.zeros(_OPS, OP_DTYPE)
    for position in (0, _OPS, opened.n_rows - 1):
        replay.fill(position, ops)
