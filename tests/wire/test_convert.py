"""A guest crosses the wire and comes out as the same guest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.v1 import common_pb2
from paging_core.config import (
    CLEAN_POLICIES,
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    GuestKind,
    Hypervisor,
    MemoryFill,
    Paging,
    ReadMapping,
    ShadowMmu,
    TrackerConfig,
    Tracking,
)
from paging_core.costs import CostTable
from paging_core.errors import BadCosts, BadOption, InvalidInput
from paging_core.units import FRAME_BYTES
from wire.convert import guest_config, guest_spec


@st.composite
def trackers(draw: st.DrawFn, n_frames: int) -> TrackerConfig:
    paging = draw(st.sampled_from(Paging))
    pml = paging is Paging.HAP and draw(st.booleans())
    frames = 1 if pml else 2 ** draw(st.integers(0, 12))
    return TrackerConfig(
        paging=paging,
        clean=draw(st.sampled_from([None, *CLEAN_POLICIES[paging]])),
        pml=pml,
        group=GroupPolicy(frames, draw(st.sampled_from(GroupScope)), draw(st.booleans())),
        prefetch=draw(st.booleans()),
        out_of_sync=draw(st.booleans()),
        shadow_pool_frames=draw(st.none() | st.integers(32, n_frames)),
        tlb_entries=2 ** draw(st.integers(4, 16)),
        hypervisor=draw(st.sampled_from(Hypervisor)),
        reads_map=draw(st.sampled_from([None, *ReadMapping])),
        shadow_mmu=draw(st.sampled_from([None, *ShadowMmu])),
    )


COSTS = [
    CostTable(),
    CostTable({"exit": 1.5, "fixup": 0.0}),
    CostTable({"exit": 1.5, "fixup": 0.0}, {"exit": (0.5, 2.0)}),
]


@st.composite
def configs(draw: st.DrawFn) -> GuestConfig:
    trace = draw(st.sampled_from(["", "/traces/redis.parquet"]))
    n_frames = draw(st.integers(256, 2**24))
    return GuestConfig(
        memory_bytes=n_frames * FRAME_BYTES,
        tracker=draw(trackers(n_frames)),
        workload="" if trace else draw(st.sampled_from(["idle", "uniform:wss=4MiB"])),
        trace=trace,
        seed=draw(st.integers(0, 2**63 - 1)),
        fill=draw(st.sampled_from(MemoryFill)),
        costs=draw(st.sampled_from(COSTS)),
    )


@given(configs())
def test_there_and_back(config: GuestConfig) -> None:
    sent = guest_spec("web", config).SerializeToString()
    spec = common_pb2.GuestSpec.FromString(sent)
    assert spec.guest_id == "web"
    assert guest_config(spec) == config


@pytest.mark.parametrize("tracking", [None, Tracking.UFFD_SYNC, Tracking.UFFD_ASYNC])
def test_a_process_there_and_back(tracking: Tracking | None) -> None:
    config = GuestConfig(2**24, TrackerConfig(tracking=tracking), kind=GuestKind.PROCESS)
    assert guest_config(guest_spec("web", config)) == config


def test_what_is_left_out_is_the_default() -> None:
    assert guest_config(common_pb2.GuestSpec(memory_bytes=2**30)) == GuestConfig(2**30)


def test_every_name_of_the_contract_means_one_thing() -> None:
    cases = [
        (common_pb2.Paging, Paging, "PAGING"),
        (common_pb2.CleanPolicy, CleanPolicy, "CLEAN_POLICY"),
        (common_pb2.GroupScope, GroupScope, "GROUP_SCOPE"),
        (common_pb2.Hypervisor, Hypervisor, "HYPERVISOR"),
        (common_pb2.ReadMapping, ReadMapping, "READ_MAPPING"),
        (common_pb2.ShadowMmu, ShadowMmu, "SHADOW_MMU"),
        (common_pb2.MemoryFill, MemoryFill, "MEMORY_FILL"),
        (common_pb2.Tracking, Tracking, "TRACKING"),
        (common_pb2.GuestKind, GuestKind, "GUEST_KIND"),
    ]
    for wire_enum, ours, prefix in cases:
        names = {f"{prefix}_{one.name}" for one in ours} | {f"{prefix}_UNSPECIFIED"}
        assert set(wire_enum.keys()) == names


def spec(**fields: object) -> common_pb2.GuestSpec:
    return common_pb2.GuestSpec(**({"memory_bytes": 2**24} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (spec(memory_bytes=2**24 + 1), BadOption),
        (spec(memory_bytes=0), BadOption),
        (spec(seed=2**64 - 1), BadOption),
        (spec(workload="idle", trace="/x"), BadOption),
        (spec(fill=17), BadOption),
        (spec(tracker=common_pb2.TrackerConfig(tracking=1)), BadOption),  # type: ignore[arg-type]
        (spec(tracker=common_pb2.TrackerConfig(paging=9)), BadOption),  # type: ignore[arg-type]
        (spec(tracker=common_pb2.TrackerConfig(clean=9)), BadOption),  # type: ignore[arg-type]
        (
            spec(tracker=common_pb2.TrackerConfig(group=common_pb2.GroupPolicy(frames=3))),
            BadOption,
        ),
        (
            spec(tracker=common_pb2.TrackerConfig(clean=common_pb2.CLEAN_POLICY_EAGER)),
            BadOption,
        ),
        (spec(cost_overrides_ns={"lunch": 1.0}), BadCosts),
        (spec(cost_overrides_ns={"exit": float("nan")}), BadCosts),
        (spec(cost_overrides_ns={"exit": 1.0}, cost_low_ns={"exit": 0.5}), BadCosts),
        (spec(cost_low_ns={"exit": 0.5}, cost_high_ns={"exit": 2.0}), BadCosts),
        (
            spec(
                cost_overrides_ns={"exit": 3.0}, cost_low_ns={"exit": 0.5}, cost_high_ns={"exit": 2}
            ),
            BadCosts,
        ),
    ],
)
def test_guests_that_cannot_be(bad: common_pb2.GuestSpec, error: type[InvalidInput]) -> None:
    with pytest.raises(error):
        guest_config(bad)
