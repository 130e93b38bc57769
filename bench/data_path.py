"""A whole migration beside a bare gRPC stream of the same bytes, in one run.

    python -m bench.data_path [--memory 1GiB] [--runs 5]

Both ends are processes of their own on loopback. The guest is idle, its memory random, the
clock real: nothing can be left out or compressed away. The migration's time is its own
(from the start of round 1 to the guest's release at the destination, all memory digested
on both hosts and compared); its messages are checksummed, and what arrives is placed. The
bare stream is `bench._bare_stream`. The two take turns, so that noise meets both. The
processor time of both ends together says the same on a machine that has other work, too.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench._bare_stream import send
from pageferry.v1 import common_pb2, source_pb2
from pageferry.v1.destination_pb2_grpc import DestinationHostStub
from pageferry.v1.source_pb2_grpc import SourceHostStub
from paging_core.units import parse_memory_bytes
from wire.channel import connect, malloc_environment, tune_malloc
from wire.hosting.launch import HostProcess

MIB = 2**20


def cpu_s(*pids: int) -> float:
    """Processor time that these processes have used, in user code and in the kernel."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Times of one pair of runs, in seconds."""

    bare_s: float
    bare_cpu_s: float
    migration_s: float
    migration_cpu_s: float
    with_prepare_s: float
    downtime: source_pb2.Downtime


class BareStream:
    """A receiver in a process of its own, and the parts to send it."""

    def __init__(self, memory_bytes: int) -> None:
        source = random.Random(0)  # noqa: S311 - noise, not secrets
        self._parts = [source.randbytes(MIB) for _ in range(memory_bytes // MIB)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench._bare_stream"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=malloc_environment(),
        )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        self._address = self._process.stdout.readline().decode().strip()

    def run(self) -> tuple[float, float]:
        """Seconds of wall and of processor time."""
        pids = os.getpid(), self._process.pid
        before_s = cpu_s(*pids)
        seconds = send(self._address, self._parts)
        return seconds, cpu_s(*pids) - before_s

    def close(self) -> None:
        self._process.communicate(b"")


class Migrations:
    """Two hosts in processes of their own; every migration moves a fresh guest."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._count = 0
        self._hosts = [
            HostProcess("source_host", ["--max-total-memory", str(2 * memory_bytes)]),
            HostProcess("dest_host", ["--max-guest-memory", str(memory_bytes)]),
        ]
        self._channels: list[grpc.Channel] = [connect(h.ready.address) for h in self._hosts]
        self._source = SourceHostStub(self._channels[0])
        self._destination = DestinationHostStub(self._channels[1])

    def run(self) -> tuple[float, float, float, source_pb2.Downtime]:
        """Seconds of wall and processor time, the wall with Prepare, and the downtime."""
        self._count += 1
        guest = common_pb2.GuestRequest(guest_id=f"bench-{self._count}")
        self._source.CreateGuest(
            common_pb2.GuestSpec(
                guest_id=guest.guest_id,
                memory_bytes=self._memory_bytes,
                workload="idle",
                fill=common_pb2.MEMORY_FILL_RANDOM,
            )
        )
        started = time.perf_counter()
        last, used_s = self._migrate(guest.guest_id)
        seconds = time.perf_counter() - started
        if last.state != source_pb2.MIGRATION_STATE_COMPLETED or not last.verified:
            sys.exit(f"the migration did not complete: {last.error}")
        self._source.DeleteGuest(guest)
        self._destination.DeleteGuest(guest)
        return last.totals.total_ns / 1e9, used_s, seconds, last.downtime

    def _migrate(self, guest_id: str) -> tuple[source_pb2.MigrationStatus, float]:
        """The last status, and the processor time since the first page."""
        request = source_pb2.MigrateRequest(
            guest_id=guest_id,
            destination=self._hosts[1].ready.address,
            clock=common_pb2.CLOCK_REAL,
            zstd_level=0,
        )
        pids = [host.process.pid for host in self._hosts]
        watch = source_pb2.WatchRequest(migration_id=self._source.Migrate(request).migration_id)
        before_s = cpu_s(*pids)
        last = source_pb2.MigrationStatus()
        for last in self._source.WatchMigration(watch):
            if not last.totals.sent_frames:
                before_s = cpu_s(*pids)
        return last, cpu_s(*pids) - before_s

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        for host in self._hosts:
            host.stop()


def chosen_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--memory", default="1GiB", help="of the guest (default 1GiB)")
    parser.add_argument("--runs", type=int, default=5, help="of each side (default 5)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = chosen_of(arguments)
    memory_bytes = parse_memory_bytes(chosen.memory)
    tune_malloc()
    bare, migrations = BareStream(memory_bytes), Migrations(memory_bytes)
    try:
        runs = [one_of_each(bare, migrations) for _ in range(chosen.runs + 1)]
    finally:
        bare.close()
        migrations.close()
    report(memory_bytes, runs[1:])  # the first of each warms up


def one_of_each(bare: BareStream, migrations: Migrations) -> Run:
    bare_s, bare_cpu_s = bare.run()
    migration_s, migration_cpu_s, with_prepare_s, downtime = migrations.run()
    return Run(bare_s, bare_cpu_s, migration_s, migration_cpu_s, with_prepare_s, downtime)


def report(memory_bytes: int, runs: list[Run]) -> None:
    print(f"data path, {memory_bytes / MIB:.0f} MiB of random memory, {len(runs)} runs of each")
    print(f"{'':<42}{'MB/s':>7}{'× bare':>8}{'range':>14}{'CPU s/GiB':>11}")
    gib = memory_bytes / 2**30
    rows = (
        ("bare stream", "bare_s", "bare_cpu_s"),
        ("migration, round 1 to release, verified", "migration_s", "migration_cpu_s"),
        ("the same with Prepare (memory touched)", "with_prepare_s", ""),
    )
    for name, wall, processor in rows:
        seconds = [getattr(run, wall) for run in runs]
        ratios = [run.bare_s / each for run, each in zip(runs, seconds, strict=True)]
        rate = memory_bytes / statistics.median(seconds) / 1e6
        spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
        used = statistics.median(getattr(run, processor) / gib for run in runs) if processor else 0
        print(
            f"{name:<42}{rate:>7.0f}{statistics.median(ratios):>8.2f}{spread:>14}"
            f"{f'{used:.2f}' if processor else '':>11}"
        )
    for part in ("suspend", "last_round", "state", "verify", "commit", "total"):
        ms = statistics.median(getattr(run.downtime, f"{part}_ns") for run in runs) / 1e6
        print(f"  downtime, {part:<30}{ms:>7.1f} ms")


if __name__ == "__main__":
    main()
