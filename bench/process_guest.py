"""What tracking costs a process as guest, and how long it waits for a fault.

    python -m bench.process_guest [--rounds 9] [--wss 16MiB]

The guest writes every fourth page of its working set, as fast as it goes, round after round;
between two rounds its memory is cleaned, or it is not tracked at all. All ways alternate, and each
figure is the median of its rounds. Operations per second are the guest's own.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from statistics import median

import numpy as np

from guests.process.guest import ProcessGuest
from paging_core.config import GroupPolicy, GuestConfig, GuestKind, TrackerConfig, Tracking
from paging_core.units import FRAME_BYTES, format_ns, parse_memory_bytes

SYNC, ASYNC = Tracking.UFFD_SYNC, Tracking.UFFD_ASYNC
STRIDE_BYTES = 4 * FRAME_BYTES
WAYS: dict[str, TrackerConfig | None] = {
    "untracked": None,
    "uffd-async": TrackerConfig(tracking=ASYNC),
    **{
        f"uffd-sync, n = {n}": TrackerConfig(tracking=SYNC, group=GroupPolicy(frames=n))
        for n in (1, 4, 16, 64, 256)
    },
}


class Way:
    """A guest that is tracked in one way, and what its rounds took."""

    def __init__(self, tracker: TrackerConfig | None, wss_bytes: int) -> None:
        self.tracked = tracker is not None
        config = GuestConfig(
            2 * wss_bytes + (8 << 20),
            tracker or TrackerConfig(),
            kind=GuestKind.PROCESS,
            workload=f"strided:wss={wss_bytes},stride={STRIDE_BYTES},writes=1",
        )
        self.guest = ProcessGuest.boot(config)
        if self.tracked:
            self.guest.start_tracking()
        self.ops_per_s: list[float] = []
        self.faults: list[int] = []

    def round(self, operations: int) -> None:
        if self.tracked:
            self.guest.clean()
        began_ns, faults = self.guest.time_ns, self._faults()
        self.guest.run_accesses(operations)
        self.ops_per_s.append(operations * 1e9 / (self.guest.time_ns - began_ns))
        self.faults.append(self._faults() - faults)

    def _faults(self) -> int:
        return self.guest.counters().faults["userfault"] if self.tracked else 0

    def waited_ns(self, share: float) -> str:
        """How long a share of the operations that met a fault took at most, by the histogram."""
        counts = np.cumsum(self.guest.latency)
        if not counts[-1]:
            return "–"
        return f"< {format_ns(1 << int(np.searchsorted(counts, share * counts[-1])))}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--wss", type=parse_memory_bytes, default=16 << 20)
    options = parser.parse_args(arguments)
    operations = options.wss // STRIDE_BYTES
    ways = {name: Way(tracker, options.wss) for name, tracker in WAYS.items()}
    for _ in range(options.rounds + 1):
        for way in ways.values():
            way.round(operations)
    base = median(ways["untracked"].ops_per_s[1:])
    print(f"{operations:,} pages are written in a round, every fourth")
    columns = ("operations/s", "per operation", "faults", "half wait", "99 % wait")
    print(f"{'':20}" + "".join(f"{one:>15}" for one in columns))
    for name, way in ways.items():
        with closing(way.guest):
            per_s = median(way.ops_per_s[1:])
            added_ns = round(1e9 / per_s - 1e9 / base)
            faults = f"{median(way.faults[1:]):,.0f}"
            cells = (
                f"{per_s:,.0f}", "+" + format_ns(max(0, added_ns)), faults,
                way.waited_ns(0.5), way.waited_ns(0.99),
            )  # fmt: skip
            print(f"{name:20}" + "".join(f"{one:>15}" for one in cells))


if __name__ == "__main__":
    main()
