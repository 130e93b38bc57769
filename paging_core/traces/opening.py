"""Opening a trace of whichever kind, told apart by what its metadata names."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow.parquet as pq

from paging_core.errors import BadTrace
from paging_core.traces.opened import DAMAGE
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import Replay
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.replay import LACKS, WrittenReplay
from paging_core.traces.written.schema import METADATA_KEY


def open_trace(path: str) -> TraceFile | WrittenPagesFile:
    """Open a trace of a program's accesses, or one of written pages.

    Raises:
        BadTrace: it cannot be read, or is no trace.
    """
    return WrittenPagesFile(path) if _holds_written_pages(Path(path)) else TraceFile(path)


def check_reads(trace: TraceFile | WrittenPagesFile) -> None:
    """Refuse a trace that cannot be replayed under shadow paging.

    Raises:
        BadTrace: nobody recorded what was read, or a row is damaged.
    """
    if isinstance(trace, TraceFile) or any(not rows.written.all() for rows in trace.groups()):
        return
    raise _without_reads(trace.path)


def what_it_lacks(path: str) -> str:
    """What of a guest a replay of a trace makes up, for people; empty of a program's accesses."""
    return LACKS if _holds_written_pages(Path(path)) else ""


def make_replay(
    path: str,
    seed: int,
    expected_digest: int = 0,
    *,
    needs_reads: bool = False,
    demand_zero: bool = True,
) -> Replay | WrittenReplay:
    """The workload that replays a trace.

    Args:
        path: of the trace.
        seed: of what it makes up: the data that it writes, and the order within windows.
        expected_digest: XXH3-64 that the file must have; 0 takes any.
        needs_reads: refuse a trace that holds written pages alone: shadow paging works for reads
            as well, and would look cheaper than it is.
        demand_zero: see `Replay`; of written pages all are mapped at boot.

    Raises:
        BadTrace: it cannot be read, is no trace, is damaged, or is another one.
    """
    with ExitStack() as stack:
        trace = stack.enter_context(closing(open_trace(path)))
        if expected_digest not in (0, trace.digest):
            raise BadTrace(
                f"the trace {path} is another one than was expected here (XXH3 "
                f"{trace.digest:016x}, not {expected_digest:016x}); copy the right one there"
            )
        replay: Replay | WrittenReplay
        if isinstance(trace, TraceFile):
            replay = Replay(trace, seed, demand_zero=demand_zero)
        else:
            replay = WrittenReplay(trace, seed)
            if needs_reads and not replay.has_reads:
                raise _without_reads(path)
        stack.pop_all()
        return replay


def _holds_written_pages(path: Path) -> bool:
    if not path.is_file():  # opening a pipe may wait for ever
        return False
    try:
        return METADATA_KEY in (pq.read_metadata(path).metadata or {})
    except DAMAGE:
        return False  # the reader reports what is wrong


def _without_reads(path: str) -> BadTrace:
    return BadTrace(
        f"trace {path}: it holds written pages and no reads, and shadow paging builds shadows for "
        "reads as well; replay it with --paging hap, or merge in what was read with: pageferry "
        "trace merge"
    )
