"""The configuration of a migration as its document shows it: everything, defaults filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import xxhash

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.config import CleanPolicy, GuestConfig, Paging, TrackerConfig
from paging_core.events import Event
from paging_core.units import FRAME_BYTES

_MIB = 1 << 20

POLICIES = {"xen": pb.POLICY_XEN, "xen-2009": pb.POLICY_XEN_2009, "qemu": pb.POLICY_QEMU}
"""Migration policies by the name that people type."""
CLOCKS = {"virtual": common_pb2.CLOCK_VIRTUAL, "real": common_pb2.CLOCK_REAL}
"""Clocks by the name that people type."""


class Trace(TypedDict):
    """Which trace was replayed: its name without the place it lay in, and its content."""

    file: str
    xxh3_64: str | None


class Configured(TypedDict):
    """Everything that decided a migration, besides pageferry itself."""

    memory_bytes: int
    fill: str
    seed: int
    workload: str | None
    trace: Trace | None
    paging: str
    clean: str
    clear_chunk_bytes: int | None
    pml: bool
    group_pages: int | str
    group_trigger: int
    group_scope: str
    d_bit_filter: bool
    prefetch: bool
    out_of_sync: bool
    shadow_pool_frames: int | None
    tlb_entries: int
    costs_ns: dict[str, float]
    clock: str
    policy: str
    max_rounds: int
    link_bits_per_s: int | None
    latency_ns: int | None
    downtime_limit_ns: int
    max_downtime_ns: int
    suppress: bool
    zstd_level: int | None
    warmup_ns: int


def configured(guest: GuestConfig, request: pb.MigrateRequest) -> Configured:
    """All settings of a migration, in the units of their names."""
    tracker = guest.tracker
    virtual = request.clock != common_pb2.CLOCK_REAL
    return {
        "memory_bytes": guest.memory_bytes,
        "fill": guest.fill.value,
        "seed": guest.seed,
        "workload": guest.workload or None,
        "trace": _trace(guest.trace),
        "paging": tracker.paging.value,
        "clean": tracker.clean_policy.value,
        "clear_chunk_bytes": _clear_chunk_bytes(tracker),
        "pml": tracker.pml,
        "group_pages": "adaptive" if tracker.group.adaptive else tracker.group.frames,
        "group_trigger": tracker.group.trigger,
        "group_scope": tracker.group.scope.value,
        "d_bit_filter": tracker.group.d_bit_filter,
        "prefetch": tracker.prefetch,
        "out_of_sync": tracker.out_of_sync,
        "shadow_pool_frames": _shadow_pool_frames(guest),
        "tlb_entries": tracker.tlb_entries,
        "costs_ns": {event.name.lower(): guest.costs.ns(event) for event in Event},
        "clock": "virtual" if virtual else "real",
        "policy": _policy_name(request.policy),
        "max_rounds": request.max_rounds,
        "link_bits_per_s": request.link_bits_per_s if virtual else None,
        "latency_ns": request.latency_ns if virtual else None,
        "downtime_limit_ns": request.downtime_limit_ns,
        "max_downtime_ns": request.max_downtime_ns,
        "suppress": not request.no_suppress,
        "zstd_level": request.zstd_level if request.HasField("zstd_level") else None,
        "warmup_ns": request.warmup_ns,
    }


def _clear_chunk_bytes(tracker: TrackerConfig) -> int | None:
    if tracker.clean_policy is not CleanPolicy.CLEAR_LOG:
        return None
    return tracker.clear_chunk_frames * FRAME_BYTES


def _policy_name(policy: pb.Policy.ValueType) -> str:
    return next((name for name, value in POLICIES.items() if value == policy), "xen")


def _trace(path: str) -> Trace | None:
    if not path:
        return None
    file = Path(path)
    # A trace named for a remote source host may not lie here.
    digest = xxhash.xxh3_64_hexdigest(file.read_bytes()) if file.is_file() else None
    return {"file": file.name, "xxh3_64": digest}


def _shadow_pool_frames(guest: GuestConfig) -> int | None:
    if guest.tracker.paging is not Paging.SHADOW:
        return None
    return guest.tracker.shadow_pool_frames or 256 + guest.memory_bytes // _MIB
