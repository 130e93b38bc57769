"""What recording costs the process that is recorded, and the recorder.

    python -m bench.recording [--memory 512MiB] [--rounds 10]

A process of its own touches every page of its memory, round after round, and says how long a round
took. Between two rounds all of it is protected again, or not. The difference, divided by the pages,
is what the first write to a page costs. Every figure is the best of the rounds, which alternate.
Needs what `pageferry record` needs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

from pageferry.record.attach import attach
from pageferry.record.errors import CannotRecord
from pageferry.record.tracker import Tracker
from paging_core.units import FRAME_BYTES, parse_memory_bytes

WRITER = """
import mmap, sys, time
import numpy as np
size, advice = int(sys.argv[1]), int(sys.argv[2])
memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(advice)
pages = np.frombuffer(memory, np.uint8)[::4096]
pages += 1
print("ready", flush=True)
for _ in sys.stdin:
    began = time.perf_counter_ns()
    pages += 1
    print(time.perf_counter_ns() - began, flush=True)
"""
KINDS = {"4 KiB pages": 15, "huge pages": 14}
"""MADV_NOHUGEPAGE and MADV_HUGEPAGE, of <linux/mman.h>."""


class Writer:
    """A process that writes a byte of every page each time it is told to."""

    def __init__(self, size_bytes: int, advice: int) -> None:
        command = [sys.executable, "-c", WRITER, str(size_bytes), str(advice)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self._line()

    def round_ns(self) -> int:
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout  # noqa: S101 - it is a pipe
        return self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def timed_ns(action: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    action()
    return time.perf_counter_ns() - began


def measure(name: str, advice: int, size_bytes: int, rounds: int) -> None:
    writer = Writer(size_bytes, advice)
    pages = size_bytes // FRAME_BYTES
    bare, first, stood, scan, idle = [], [], [], [], []
    try:
        for _ in range(rounds):
            bare.append(writer.round_ns())
            with attach(writer.pid) as attached:
                stood.append(attached.stopped_ns)
                with Tracker(writer.pid, attached) as tracker:
                    tracker.take()  # for huge pages, the round splits them all
                    first.append(writer.round_ns())
                    scan.append(timed_ns(tracker.take))
                    idle.append(timed_ns(tracker.take))
    finally:
        writer.end()
    per_gib = 2**30 / size_bytes / 1e6
    print(
        f"{name:<14}{(min(first) - min(bare)) / pages:>16,.0f}{min(bare) / pages:>17,.0f}"
        f"{min(scan) * per_gib:>20,.1f}{min(idle) * per_gib:>20,.1f}{min(stood) / 1e6:>11,.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    size_bytes = parse_memory_bytes(chosen.memory)
    print(f"recording, {chosen.memory}, best of {chosen.rounds}, {os.cpu_count()} processors")
    titles = (
        "first write, ns",
        "other write, ns",
        "scan, ms per GiB",
        "nothing written",
        "stood, ms",
    )
    widths = (16, 17, 20, 20, 11)
    print(" " * 14 + "".join(f"{title:>{w}}" for title, w in zip(titles, widths, strict=True)))
    try:
        for name, advice in KINDS.items():
            measure(name, advice, size_bytes, chosen.rounds)
    except CannotRecord as error:
        sys.exit(f"not measured: {error}")


if __name__ == "__main__":
    main()
