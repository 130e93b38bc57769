"""A configuration that exists can run: everything else is refused when it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from paging_core.config import (
    CLEAN_POLICIES,
    CLEAN_RULES,
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    Hypervisor,
    MemoryFill,
    Paging,
    ReadMapping,
    TrackerConfig,
    ViolationHandling,
)
from paging_core.errors import BadOption
from paging_core.kvm_options import GroupOpening, SlotZap


@pytest.mark.parametrize("frames", [1 << shift for shift in range(13)])
def test_group_sizes_are_the_powers_of_two_to_4096(frames: int) -> None:
    assert GroupPolicy(frames).frames == frames


@pytest.mark.parametrize("frames", [-64, -1, 0, 3, 63, 65, 4095, 8192])
def test_other_group_sizes_are_refused_with_one_that_works(frames: int) -> None:
    with pytest.raises(BadOption, match=rf"{frames} frames is not a power of two.*group-pages 64"):
        GroupPolicy(frames)


@pytest.mark.parametrize(
    ("hypervisor", "shadow", "hap", "reads_map"),
    [
        (Hypervisor.XEN, CleanPolicy.BLOW, CleanPolicy.LAZY, ReadMapping.READ_ONLY),
        (Hypervisor.XEN_2009, CleanPolicy.BLOW, CleanPolicy.EAGER, ReadMapping.READ_ONLY),
        (
            Hypervisor.KVM, CleanPolicy.WRITE_PROTECT, CleanPolicy.WRITE_PROTECT,
            ReadMapping.WRITABLE,
        ),
    ],
)  # fmt: skip
def test_a_hypervisor_gives_what_was_not_set_alone(
    hypervisor: Hypervisor, shadow: CleanPolicy, hap: CleanPolicy, reads_map: ReadMapping
) -> None:
    own = TrackerConfig(hypervisor=hypervisor)
    assert (own.clean_policy, own.read_mapping, own.out_of_sync) == (shadow, reads_map, True)
    nested = TrackerConfig(Paging.HAP, hypervisor=hypervisor)
    assert (nested.clean_policy, nested.read_mapping) == (hap, None)
    for clean in CLEAN_POLICIES[Paging.SHADOW]:
        assert TrackerConfig(clean=clean, hypervisor=hypervisor).clean_policy is clean
    for mapping in ReadMapping:
        assert TrackerConfig(reads_map=mapping, hypervisor=hypervisor).read_mapping is mapping


@pytest.mark.parametrize(
    ("paging", "clean"),
    [
        (Paging.SHADOW, CleanPolicy.LAZY),
        (Paging.SHADOW, CleanPolicy.EAGER),
        (Paging.HAP, CleanPolicy.BLOW),
    ],
)
def test_a_clean_policy_of_the_other_mode_is_refused(paging: Paging, clean: CleanPolicy) -> None:
    with pytest.raises(BadOption, match=f"--clean {clean} does not exist under {paging} .*choose"):
        TrackerConfig(paging, clean)


def test_hap_groups_are_runs_of_gfns_whatever_was_asked() -> None:
    asked = GroupPolicy(64, GroupScope.VIRTUAL, d_bit_filter=True)
    assert TrackerConfig(Paging.HAP, group=asked).group == GroupPolicy(
        64, GroupScope.PHYSICAL, d_bit_filter=True
    )
    assert TrackerConfig(Paging.SHADOW, group=asked).group == asked


def test_pml_needs_hap_and_leaves_nothing_to_group() -> None:
    with pytest.raises(BadOption, match=r"--pml .*needs --paging hap"):
        TrackerConfig(Paging.SHADOW, pml=True)
    with pytest.raises(BadOption, match=r"--pml .*nothing to group.*--group-pages 1"):
        TrackerConfig(Paging.HAP, pml=True, group=GroupPolicy(2))
    assert TrackerConfig(Paging.HAP, pml=True).pml


@pytest.mark.parametrize("entries", [-128, 1, 64, 1000, 2**17])
def test_a_dirty_ring_is_a_power_of_two_from_128(entries: int) -> None:
    with pytest.raises(BadOption, match=r"power of two from 128 to 65536; try --dirty-ring 4096"):
        TrackerConfig(hypervisor=Hypervisor.KVM, dirty_ring=entries)


def test_a_dirty_ring_is_kvms_and_excludes_the_bitmap_and_groups() -> None:
    ring = TrackerConfig(hypervisor=Hypervisor.KVM, dirty_ring=128)
    assert ring.dirty_ring == 128
    with pytest.raises(BadOption, match=r"--dirty-ring is KVM's; try --hypervisor kvm"):
        replace(ring, hypervisor=Hypervisor.XEN)
    hap = replace(ring, paging=Paging.HAP)
    with pytest.raises(BadOption, match=r"--dirty-ring is KVM's"):
        replace(hap, violations=ViolationHandling.SYNC)
    with pytest.raises(BadOption, match=r"no room beside the 512 of the PML buffer; .*-ring 4096"):
        replace(hap, pml=True, dirty_ring=512)
    assert [replace(hap, pml=pml, dirty_ring=1024).ring_limit for pml in (False, True)] == [
        960,
        448,
    ]
    with pytest.raises(BadOption, match="use --clean write-protect"):
        replace(ring, clean=CleanPolicy.CLEAR_LOG)
    with pytest.raises(BadOption, match="--group-pages 1"):
        replace(ring, group=GroupPolicy(8))


KVM = TrackerConfig(hypervisor=Hypervisor.KVM)
GROUPS = GroupPolicy(16)


def test_groups_are_opened_in_the_fault_unless_userfaultfd_is_chosen() -> None:
    assert replace(KVM, group=GROUPS).group_opening is GroupOpening.FAULT
    assert not replace(KVM, group=GROUPS).uses_userfaultfd
    chosen = replace(KVM, group=GROUPS, group_opening=GroupOpening.UFFD_POPULATED)
    assert chosen.uses_userfaultfd
    assert chosen.group.scope is GroupScope.PHYSICAL


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"hypervisor": Hypervisor.XEN}, "try --hypervisor kvm --paging shadow"),
        ({"paging": Paging.HAP}, "try --hypervisor kvm --paging shadow"),
        ({"clean": CleanPolicy.BLOW}, "use --clean write-protect or clear-log"),
        ({"group": GroupPolicy(adaptive=True)}, "use --group-opening fault"),
        ({"group": GroupPolicy(16, d_bit_filter=True)}, "use --group-opening fault"),
        ({"dirty_ring": 128}, "or use --group-opening fault"),
    ],
)
def test_userfaultfd_is_refused_where_it_cannot(changes: dict[str, Any], way_out: str) -> None:
    with pytest.raises(BadOption, match=way_out):
        replace(KVM, group_opening=GroupOpening.UFFD_SHARED, **changes)


def test_memory_slots_belong_to_kvms_blow() -> None:
    blow = replace(KVM, clean=CleanPolicy.BLOW)
    assert replace(blow, memory_slots=4, slot_zap=SlotZap.SLOT).memory_slots == 4
    for tracker in (KVM, TrackerConfig(), replace(KVM, paging=Paging.HAP)):
        with pytest.raises(BadOption, match="use --hypervisor kvm --clean blow"):
            replace(tracker, memory_slots=2)
        with pytest.raises(BadOption, match="use --hypervisor kvm --clean blow"):
            replace(tracker, slot_zap=SlotZap.SLOT)
    with pytest.raises(BadOption, match="not between 1 and 512"):
        replace(blow, memory_slots=513)


def test_a_log_that_starts_full_is_cleared_in_parts() -> None:
    with pytest.raises(BadOption, match="use --clean clear-log"):
        replace(KVM, initially_set=True)


@pytest.mark.parametrize("entries", [0, 8, 24, 2047, -2048, 2**21, 2**62])
def test_a_tlb_is_a_power_of_two_from_16(entries: int) -> None:
    with pytest.raises(BadOption, match="not a power of two from 16 to 1048576"):
        TrackerConfig(tlb_entries=entries)


@pytest.mark.parametrize("frames", [-1, 0, 31])
def test_a_shadow_pool_holds_at_least_one_walk(frames: int) -> None:
    with pytest.raises(BadOption, match="use at least 32"):
        TrackerConfig(shadow_pool_frames=frames)
    assert TrackerConfig(shadow_pool_frames=32).shadow_pool_frames == 32


def test_a_shadow_pool_is_no_way_to_memory_that_was_refused() -> None:
    GuestConfig(2**22, TrackerConfig(shadow_pool_frames=1024))
    with pytest.raises(BadOption, match="larger than the guest's 1024"):
        GuestConfig(2**22, TrackerConfig(shadow_pool_frames=2**40))


@pytest.mark.parametrize("memory_bytes", [-4096, 0, 1, 2**20 + 1, 2**20 + 512])
def test_guest_memory_is_whole_frames(memory_bytes: int) -> None:
    with pytest.raises(BadOption, match="not a multiple of the 4096-byte frame"):
        GuestConfig(memory_bytes)


def test_a_guest_has_at_least_1_mib() -> None:
    with pytest.raises(BadOption, match="at least 1 MiB"):
        GuestConfig(2**20 - 4096)
    assert GuestConfig(2**20).n_frames == 256


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_fits_63_bits(seed: int) -> None:
    with pytest.raises(BadOption, match=f"seed {seed} is not between"):
        GuestConfig(2**20, seed=seed)


def test_names_on_the_command_line_are_the_values() -> None:
    assert Paging("hap") is Paging.HAP
    assert CleanPolicy("write-protect") is CleanPolicy.WRITE_PROTECT
    assert GroupScope("physical") is GroupScope.PHYSICAL
    assert MemoryFill("mixed") is MemoryFill.MIXED


def test_every_clean_policy_has_its_rules() -> None:
    assert set(CLEAN_RULES) == set(CleanPolicy)
    assert {one for one in CleanPolicy if CLEAN_RULES[one].defers} == {CleanPolicy.CLEAR_LOG}
    for policy, rules in CLEAN_RULES.items():
        assert not (rules.drops_all and rules.defers), policy  # it takes all away, or nothing
