"""What writing the flow costs: the same migrations with and without, in turns.

    python -m bench.flow [--memory 256MiB] [--runs 5]

The whole of `pageferry migrate` between two hosts that run already, its wall time and the
processor time of the source host, which does all of the recording.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.data_path import cpu_s
from pageferry.request import MigrationOptions
from pageferry.source_client import SourceClient
from pageferry.v1 import common_pb2
from pageferry.v1.destination_pb2_grpc import DestinationHostStub
from paging_core.units import parse_memory_bytes
from wire.channel import connect
from wire.convert import guest_spec
from wire.hosting.launch import HostProcess

CASES: dict[str, dict[str, Any]] = {
    "shadow, groups of 1": {},
    "shadow, groups of 64": {"group_pages": 64},
    "hap, groups of 1": {"paging": "hap"},
}


def _options(memory_bytes: int, settings: dict[str, Any]) -> MigrationOptions:
    """A guest that writes to a quarter of its memory."""
    load = f"uniform:wss={memory_bytes // 4096}KiB"
    return MigrationOptions.of(memory_bytes=memory_bytes, workload=load, **settings)


class Bench:
    """Two hosts, and migrations between them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self._source = HostProcess("source_host", ["--flow-dir", str(root)])
        self._dest = HostProcess("dest_host")
        self._channel = connect(self._dest.ready.address)
        self._destination = DestinationHostStub(self._channel)

    def run(self, options: MigrationOptions, *, flow: bool) -> tuple[float, float, int]:
        """Wall and processor seconds of one migration, and the events that it recorded."""
        self._count += 1
        name = f"bench-{self._count}"
        request = options.migrate_request(name, self._dest.ready.address)
        request.let_run = True
        directory = self._root / name
        if flow:
            request.flow_directory = str(directory)
        pid = self._source.process.pid
        with SourceClient(self._source.ready.address) as client:
            client.create_guest(guest_spec(name, options.guest_config()))
            before_s, started = cpu_s(pid), time.perf_counter()
            *_, last = client.watch(client.migrate(request).migration_id)
            wall_s, used_s = time.perf_counter() - started, cpu_s(pid) - before_s
            client.delete_guest(name)
        self._destination.DeleteGuest(common_pb2.GuestRequest(guest_id=name))
        if not last.verified:
            sys.exit(f"the migration did not complete: {last.error}")
        events = _rows(directory) if flow else 0
        shutil.rmtree(directory, ignore_errors=True)
        return wall_s, used_s, events

    def close(self) -> None:
        self._channel.close()
        self._source.stop()
        self._dest.stop()


def _rows(directory: Path) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only where it is needed

    return sum(pq.read_metadata(path).num_rows for path in directory.glob("*.parquet"))


def _ratio(pairs: Sequence[tuple[float, float]]) -> str:
    ratios = [recorded / plain for plain, recorded in pairs]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each side (default 5)")
    parser.add_argument("--memory", default="256MiB", help="of the guest (default 256MiB)")
    chosen = parser.parse_args(arguments)
    runs, memory_bytes = chosen.runs, parse_memory_bytes(chosen.memory)
    print(f"a migration with its flow, × the same without; {runs} runs of each")
    print(f"{'':<24}{'rows':>10}{'wall':>22}{'processor, source':>22}")
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(Path(root))
        try:
            for name, settings in CASES.items():
                options = _options(memory_bytes, settings)
                bench.run(options, flow=True)  # warms up
                both = [
                    (bench.run(options, flow=False), bench.run(options, flow=True))
                    for _ in range(runs)
                ]
                wall = _ratio([(plain[0], recorded[0]) for plain, recorded in both])
                used = _ratio([(plain[1], recorded[1]) for plain, recorded in both])
                print(f"{name:<24}{both[0][1][2]:>10,}{wall:>22}{used:>22}")
        finally:
            bench.close()


if __name__ == "__main__":
    main()
