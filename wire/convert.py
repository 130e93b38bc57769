"""Guests as the contract writes them, and as `paging_core.config` does."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from pageferry.v1 import common_pb2
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
from paging_core.guest import GuestCounters

_Choice = TypeVar("_Choice", bound=StrEnum)

_PAGING: Mapping[int, Paging] = {
    common_pb2.PAGING_UNSPECIFIED: Paging.SHADOW,
    common_pb2.PAGING_SHADOW: Paging.SHADOW,
    common_pb2.PAGING_HAP: Paging.HAP,
}
_CLEAN: Mapping[int, CleanPolicy] = {
    common_pb2.CLEAN_POLICY_BLOW: CleanPolicy.BLOW,
    common_pb2.CLEAN_POLICY_WRITE_PROTECT: CleanPolicy.WRITE_PROTECT,
    common_pb2.CLEAN_POLICY_LAZY: CleanPolicy.LAZY,
    common_pb2.CLEAN_POLICY_EAGER: CleanPolicy.EAGER,
    common_pb2.CLEAN_POLICY_CLEAR_LOG: CleanPolicy.CLEAR_LOG,
}
_SCOPE: Mapping[int, GroupScope] = {
    common_pb2.GROUP_SCOPE_UNSPECIFIED: GroupScope.VIRTUAL,  # HAP makes it physical by itself
    common_pb2.GROUP_SCOPE_VIRTUAL: GroupScope.VIRTUAL,
    common_pb2.GROUP_SCOPE_PHYSICAL: GroupScope.PHYSICAL,
}
_FILL: Mapping[int, MemoryFill] = {
    common_pb2.MEMORY_FILL_UNSPECIFIED: MemoryFill.MIXED,
    common_pb2.MEMORY_FILL_ZERO: MemoryFill.ZERO,
    common_pb2.MEMORY_FILL_MIXED: MemoryFill.MIXED,
    common_pb2.MEMORY_FILL_RANDOM: MemoryFill.RANDOM,
}


def _choice(known: Mapping[int, _Choice], number: int, what: str) -> _Choice:
    if number not in known:
        raise BadOption(f"{what} {number} is none that contract 1.0 knows; see common.proto")
    return known[number]


def _number(known: Mapping[int, _Choice], choice: _Choice) -> int:
    """The contract's number of a choice (the explicit one, never UNSPECIFIED)."""
    return max(number for number, meant in known.items() if meant is choice)


def guest_config(spec: common_pb2.GuestSpec) -> GuestConfig:
    """What a host builds a guest from.

    Raises:
        InvalidInput: a value outside its domain.
    """
    if spec.trace and spec.workload:
        raise BadOption("a guest runs a workload or replays a trace; give one of the two")
    optional = {} if spec.trace or not spec.workload else {"workload": spec.workload}
    if spec.trace:
        optional = {"workload": "", "trace": spec.trace}
    return GuestConfig(
        memory_bytes=spec.memory_bytes,
        tracker=_tracker_config(spec.tracker),
        seed=spec.seed,
        fill=_choice(_FILL, spec.fill, "memory fill"),
        costs=CostTable(dict(spec.cost_overrides_ns)),
        **optional,
    )


def _tracker_config(tracker: common_pb2.TrackerConfig) -> TrackerConfig:
    defaults = TrackerConfig()
    return TrackerConfig(
        paging=_choice(_PAGING, tracker.paging, "paging"),
        clean=_choice(_CLEAN, tracker.clean, "clean policy") if tracker.clean else None,
        pml=tracker.pml,
        group=GroupPolicy(
            frames=tracker.group.frames or 1,
            scope=_choice(_SCOPE, tracker.group.scope, "group scope"),
            d_bit_filter=tracker.group.d_bit_filter,
            trigger=tracker.group.trigger or 1,
            adaptive=tracker.group.adaptive,
        ),
        prefetch=not tracker.no_prefetch,
        out_of_sync=tracker.out_of_sync,
        shadow_pool_frames=tracker.shadow_pool_frames or None,
        tlb_entries=tracker.tlb_entries or defaults.tlb_entries,
        clear_chunk_frames=tracker.clear_chunk_frames or defaults.clear_chunk_frames,
    )


def guest_spec(guest_id: str, config: GuestConfig) -> common_pb2.GuestSpec:
    """The same guest for the wire; `guest_config` reads an equal config back."""
    return common_pb2.GuestSpec(
        guest_id=guest_id,
        memory_bytes=config.memory_bytes,
        tracker=_tracker_message(config.tracker),
        workload="" if config.trace else config.workload,
        trace=config.trace,
        seed=config.seed,
        fill=_number(_FILL, config.fill),  # type: ignore[arg-type]
        cost_overrides_ns=config.costs.overrides_ns,
    )


def _tracker_message(tracker: TrackerConfig) -> common_pb2.TrackerConfig:
    return common_pb2.TrackerConfig(
        paging=_number(_PAGING, tracker.paging),  # type: ignore[arg-type]
        clean=_number(_CLEAN, tracker.clean) if tracker.clean else 0,  # type: ignore[arg-type]
        pml=tracker.pml,
        group=common_pb2.GroupPolicy(
            frames=tracker.group.frames,
            scope=_number(_SCOPE, tracker.group.scope),  # type: ignore[arg-type]
            d_bit_filter=tracker.group.d_bit_filter,
            trigger=tracker.group.trigger,
            adaptive=tracker.group.adaptive,
        ),
        no_prefetch=not tracker.prefetch,
        out_of_sync=tracker.out_of_sync,
        shadow_pool_frames=tracker.shadow_pool_frames or 0,
        tlb_entries=tracker.tlb_entries,
        clear_chunk_frames=tracker.clear_chunk_frames,
    )


def guest_cost(counters: GuestCounters) -> common_pb2.GuestCost:
    """What the tracking cost, for a status."""
    return common_pb2.GuestCost(
        faults=counters.faults,
        events=counters.events,
        tracking_ns=counters.tracking_ns,
        base_ns=counters.base_ns,
        accesses=counters.accesses,
        slowdown=counters.slowdown,
    )
