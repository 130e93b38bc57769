"""From what a person typed to what the source host is asked, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pageferry.configured import CLOCKS, POLICIES
from pageferry.v1 import source_pb2 as pb
from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    MemoryFill,
    Paging,
    TrackerConfig,
)
from paging_core.costs import CostTable
from paging_core.errors import BadOption
from paging_core.units import FRAME_BYTES
from paging_core.workloads.catalog import canonical_spec, check_working_set
from wire.address import parse_address
from wire.trust.security import THIS_MACHINE, Security

DEFAULT_WORKLOAD = "hotcold"
ADAPTIVE = "adaptive"
"""Instead of a number of pages in a group."""


@dataclass(frozen=True)
class MigrationOptions:
    """The options of ``pageferry migrate``, quantities as integers of their unit."""

    memory_bytes: int
    workload: str | None = None
    trace: str | None = None
    seed: int = 0
    fill: str = "mixed"
    paging: str = "shadow"
    clean: str | None = None
    clear_chunk_bytes: int = 4 << 20
    pml: bool = False
    group_pages: int | str = 1
    group_trigger: int = 1
    group_scope: str | None = None
    d_bit_filter: bool = False
    no_prefetch: bool = False
    out_of_sync: bool = False
    costs_file: str | None = None
    policy: str = "xen"
    downtime_limit_ns: int = 300_000_000
    max_downtime_ns: int | None = None
    max_rounds: int = 0
    warmup_ns: int = 0
    no_suppress: bool = False
    zstd_level: int | None = None
    clock: str = "virtual"
    link_bits_per_s: int = 1_000_000_000
    latency_ns: int = 100_000
    source: str | None = None
    dest: str | None = None
    tls: str | None = None
    insecure: bool = False
    flow: str | None = None

    def guest_config(self) -> GuestConfig:
        """The guest, checked.

        Raises:
            InvalidInput: anything that cannot be, with the way out.
        """
        if self.workload is not None and self.trace is not None:
            raise BadOption("a guest runs --workload or replays --trace, not both; drop one")
        self._check_downtime()
        _check_addresses(self.source, self.dest)
        if self.source is not None:
            # Before anything starts: a missing certificate, or plain text to another machine.
            self.security().channel_credentials(self.source)
        config = GuestConfig(
            memory_bytes=self.memory_bytes,
            tracker=self._tracker(),
            workload="" if self.trace else self._workload(),
            trace=self._trace(),
            seed=self.seed,
            fill=MemoryFill(self.fill),
            costs=CostTable.from_toml(Path(self.costs_file)) if self.costs_file else CostTable(),
        )
        if config.workload:
            check_working_set(config)
        return config

    def _check_downtime(self) -> None:
        """As the source host would refuse it, before there is a guest."""
        if self.policy == "qemu" and 0 < (self.max_downtime_ns or 0) < self.downtime_limit_ns:
            raise BadOption(
                "--max-downtime is below --downtime-limit, the goal of --policy qemu; raise the "
                "one or lower the other"
            )

    def _workload(self) -> str:
        return canonical_spec(self.workload or DEFAULT_WORKLOAD)

    def _trace(self) -> str:
        if self.trace is None or self.source is not None:
            # On a host elsewhere the path is that host's own.
            return self.trace or ""
        # Here and not above: it imports pyarrow, and --help must not.
        from paging_core.traces.reader import TraceFile  # noqa: PLC0415

        TraceFile(self.trace)
        return str(Path(self.trace).resolve())

    def _tracker(self) -> TrackerConfig:
        paging = Paging(self.paging)
        if paging is Paging.HAP:
            self._check_hap()
        return TrackerConfig(
            paging=paging,
            clean=CleanPolicy(self.clean) if self.clean else None,
            pml=self.pml,
            group=self._group(),
            prefetch=not self.no_prefetch,
            out_of_sync=self.out_of_sync,
            clear_chunk_frames=self.clear_chunk_bytes // FRAME_BYTES,
        )

    def _group(self) -> GroupPolicy:
        adaptive = self.group_pages == ADAPTIVE
        return GroupPolicy(
            frames=1 if adaptive else int(self.group_pages),
            scope=GroupScope(self.group_scope or "virtual"),
            d_bit_filter=self.d_bit_filter,
            trigger=self.group_trigger,
            adaptive=adaptive,
        )

    def _check_hap(self) -> None:
        if self.group_scope == "virtual":
            raise BadOption(
                "--group-scope virtual needs --paging shadow: a P2M knows no virtual addresses; "
                "use --group-scope physical"
            )
        for given, option in (
            (self.no_prefetch, "--no-prefetch"),
            (self.out_of_sync, "--out-of-sync"),
        ):
            if given:
                raise BadOption(f"{option} is about shadow pages and needs --paging shadow")

    def security(self) -> Security:
        """Who we are to the source host.

        Raises:
            BadOption: see `Security.of`.
        """
        if self.source is None:
            return THIS_MACHINE  # hosts of our own, on loopback
        return Security.of(Path(self.tls) if self.tls else None, insecure=self.insecure)

    def hosts(self) -> tuple[str | None, str | None, tuple[str, ...]]:
        """Where to migrate, as `pageferry.hosts.hosts` takes it."""
        own = ("--flow-dir", str(Path(self.flow).resolve())) if self.flow else ()
        return self.source, self.dest, own

    def _flow_directory(self) -> str:
        """As the source host takes it: on a host elsewhere the path is that host's own."""
        if self.flow is None:
            return ""
        return self.flow if self.source is not None else str(Path(self.flow).resolve())

    def migrate_request(self, guest_id: str, destination: str) -> pb.MigrateRequest:
        """What the source host is asked to do with the guest."""
        return pb.MigrateRequest(
            guest_id=guest_id,
            destination=destination,
            policy=POLICIES[self.policy],
            clock=CLOCKS[self.clock],
            link_bits_per_s=self.link_bits_per_s,
            latency_ns=self.latency_ns,
            downtime_limit_ns=self.downtime_limit_ns,
            max_downtime_ns=self.max_downtime_ns or 0,
            no_suppress=self.no_suppress,
            zstd_level=self.zstd_level,
            max_rounds=self.max_rounds,
            warmup_ns=self.warmup_ns,
            flow_directory=self._flow_directory(),
        )


def _check_addresses(source: str | None, destination: str | None) -> None:
    """Both addresses or none, each of them an address.

    Raises:
        BadOption: one without the other, or not an address.
    """
    if (source is None) != (destination is None):
        raise BadOption(
            "--source and --dest go together: give both, or neither to start hosts on loopback"
        )
    for address in (source, destination):
        if address is not None:
            parse_address(address)
