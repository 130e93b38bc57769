"""How long a flow of tens of millions of events takes to analyse, and in what memory.

    python -m bench.analysis [--events 20000000]

The flow is made up: groups of 16 of which a third is written, 30 rounds, every dirty frame
sent. It is written by the recorder's own files and read by the command's own analysis.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from pageferry import in_process, results
from pageferry.analysis.analysis import analyze
from pageferry.document import Document
from pageferry.request import MigrationOptions
from paging_core.units import FRAME_BYTES
from source_host.watch.flow_files import DETAILS, EVENT_KINDS, MOMENTS, SEND_KINDS, FlowFiles, names

ROUNDS = 30
GROUP = 16
ROUND_NS = 1_000_000_000
FIXUP, OPENED, FIRST_WRITE = (EVENT_KINDS.index(k) for k in ("fixup", "opened", "first_write"))


class Told:
    """What the result of such a migration says of it; `analyze` holds the trace against it."""

    def __init__(self, n_frames: int) -> None:
        self.fixups = self.sent = self.falsely_dirty = 0
        self.crossed = np.zeros(n_frames, np.bool_)

    def document(self, like: Document) -> Document:
        """A result with these figures and the rest of another one."""
        unique = int(np.count_nonzero(self.crossed))
        document = like.copy()
        document["config"] = {**like["config"], "memory_bytes": len(self.crossed) * FRAME_BYTES}
        document["faults"] = {**like["faults"], "fixup": self.fixups}
        document["pages"] = {
            **like["pages"], "sent": self.sent, "unique": unique, "resent": self.sent - unique,
            "data": self.sent, "zero": 0, "suppressed": 0, "falsely_dirty": self.falsely_dirty,
        }  # fmt: skip
        return document


def write_round(files: FlowFiles, number: int, n_groups: int, told: Told) -> None:
    """A fixup, its group and the writes into it, `n_groups` times; then all of it is sent."""
    rng = np.random.default_rng(number)
    leaders = np.sort(rng.permutation(n_groups * 2)[:n_groups]) * GROUP
    members = (leaders[:, None] + np.arange(GROUP)).ravel()
    written = rng.random(len(members)) < 1 / 3
    kind = np.where(np.arange(len(members)) % GROUP == 0, FIXUP, OPENED)
    late = members[written & (kind == OPENED)]
    falsely = len(members) - n_groups - len(late)
    told.fixups += n_groups
    told.sent += len(members)
    told.falsely_dirty += falsely
    told.crossed[members] = True
    gfns = np.concatenate([members, late])
    kinds = np.concatenate([kind, np.full(len(late), FIRST_WRITE)])
    start = number * ROUND_NS
    times = start + np.linspace(0, ROUND_NS - 2, len(gfns)).astype(np.int64)
    n = len(gfns)
    files.append(
        "events",
        [
            times,
            names(kinds, EVENT_KINDS),
            names(np.full(n, DETAILS.index("none")), DETAILS),
            gfns.astype(np.int32),
            (gfns - gfns % GROUP).astype(np.int32),
            np.zeros(n, np.uint8),
        ],
    )
    m = len(members)
    files.append(
        "sends",
        [
            np.full(m, start + ROUND_NS + 1),
            np.full(m, number + 2, np.int32),
            members.astype(np.int32),
            names(np.full(m, SEND_KINDS.index("data")), SEND_KINDS),
            np.ones(m, np.bool_),
            np.full(m, FRAME_BYTES, np.float32),
        ],
    )
    files.append(
        "moments",
        [
            np.array([start + ROUND_NS]),
            names(np.array([MOMENTS.index("clean")]), MOMENTS),
            np.array([number + 1], np.int32),
            np.array([len(members)]),
            np.array([falsely]),
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a flow, analyse it, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=20_000_000)
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    n_groups = options.events // ROUNDS * 3 // (GROUP * 4)
    like = in_process.run(
        MigrationOptions.of(memory_bytes=1 << 20, workload="idle:wss=64KiB", group_pages=GROUP)
    )
    told = Told(2 * n_groups * GROUP)
    with tempfile.TemporaryDirectory() as place:
        flow = Path(place) / "flow"
        files = FlowFiles(flow)
        for number in range(ROUNDS):
            write_round(files, number, n_groups, told)
        files.finish({"outcome": "completed"})
        (flow / "result.json").write_text(results.encode(told.document(like)))
        before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        analysis = analyze(flow)
        elapsed_s = time.perf_counter() - started
        size = sum(file.stat().st_size for file in flow.iterdir())
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    opened = analysis["saved"]["opened"]
    print(f"a flow of {options.events:,} events ({size / 2**20:.0f} MiB), {opened:,} opened frames")
    print(
        f"analysed in {elapsed_s:.1f} s; "
        f"memory at most {peak_mib:.0f} MiB ({before_mib:.0f} before)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
