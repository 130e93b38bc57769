"""What the two hosts keep beyond the guest's own memory: percent of its size, plus a fixed amount.

    python -m bench.memory [--sizes 256MiB,1GiB]

A guest's memory is shared (RssShmem); all else that a host holds is anonymous (RssAnon), so
the highest RssAnon seen during a migration is what is looked for. Of the fixed amount half is
Python with its libraries, and half buffers of messages on the way, which come and go.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pageferry.v1 import common_pb2, source_pb2
from pageferry.v1.source_pb2_grpc import SourceHostStub
from paging_core.units import parse_memory_bytes
from wire.channel import connect
from wire.hosting.launch import HostProcess

MIB = 2**20
FIXED_MIB = 160
SHARE = 0.02
SAMPLE_S = 0.005
TRACKERS = {
    "shadow": common_pb2.TrackerConfig(paging=common_pb2.PAGING_SHADOW),
    "hap": common_pb2.TrackerConfig(paging=common_pb2.PAGING_HAP),
}


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that it shares with none, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel tells no RssAnon")


class Peak:
    """The highest value that was seen of a process while the block ran."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes(self._pid))

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._sampler.join()


def migrate(hosts: list[HostProcess], tracker: common_pb2.TrackerConfig, size_mib: int) -> None:
    """Move a guest that writes to a quarter of its memory, with all of it mapped."""
    with connect(hosts[0].ready.address) as to_source:
        source = SourceHostStub(to_source)
        source.CreateGuest(
            common_pb2.GuestSpec(
                guest_id="bench",
                memory_bytes=size_mib * MIB,
                tracker=tracker,
                workload=f"uniform:wss={size_mib // 4}MiB",
                fill=common_pb2.MEMORY_FILL_RANDOM,
            )
        )
        request = source_pb2.MigrateRequest(
            guest_id="bench",
            destination=hosts[1].ready.address,
            link_bits_per_s=10**10,
            max_rounds=5,
        )
        watch = source_pb2.WatchRequest(migration_id=source.Migrate(request).migration_id)
        *_, last = source.WatchMigration(watch)
        if last.state != source_pb2.MIGRATION_STATE_COMPLETED or not last.verified:
            sys.exit(f"the migration did not complete: {last.error}")


def peaks_of(tracker: common_pb2.TrackerConfig, size_mib: int) -> tuple[int, int]:
    """Peak of the source and of the destination, each in a fresh process, bytes."""
    size = str(size_mib * MIB)
    hosts = [
        HostProcess("source_host", ["--max-total-memory", size]),
        HostProcess("dest_host", ["--max-guest-memory", size]),
    ]
    try:
        with Peak(hosts[0].process.pid) as source, Peak(hosts[1].process.pid) as destination:
            migrate(hosts, tracker, size_mib)
    finally:
        for host in hosts:
            host.stop()
    return source.peak_bytes, destination.peak_bytes


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="256MiB,1GiB", help="of guests (default 256MiB,1GiB)")
    chosen = parser.parse_args(arguments).sizes.split(",")
    sizes_mib = [parse_memory_bytes(size) // MIB for size in chosen]
    print("memory beyond the guest's own, highest during a migration, MiB")
    sizes = "".join(f"{f'{size} MiB guest':>16}" for size in sizes_mib)
    print(f"{'':<26}{sizes}{'of the limit, at most':>24}")
    for name, tracker in TRACKERS.items():
        peaks = [peaks_of(tracker, size) for size in sizes_mib]
        for side, column in zip(("source", "destination"), zip(*peaks, strict=True), strict=True):
            cells = "".join(f"{peak / MIB:>16.0f}" for peak in column)
            shares = (
                peak / (FIXED_MIB * MIB + size * MIB * SHARE)
                for peak, size in zip(column, sizes_mib, strict=True)
            )
            print(f"{f'{side}, {name}':<26}{cells}{max(shares):>24.2f}")
    print(f"the limit: {FIXED_MIB} MiB + {SHARE:.0%} of the guest, for each host")


if __name__ == "__main__":
    main()
