"""No lost update: a pre-copy that trusts the tracker ends with the guest's memory, exactly.

Copy everything once, then again and again only what the tracker reports, while the guest
goes on; after the last clean the copy and the guest must be the same, and the copy must run
on like the original. Every paging mode × clean policy × group × scope × filter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from paging_core import log_dirty
from paging_core.config import (
    CLEAN_POLICIES,
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    Hypervisor,
    Paging,
    TrackerConfig,
)
from paging_core.kvm_options import GroupOpening, SlotZap, SuperpageSplit
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.harness import Silent, boot, get_and_clear, run
from tests.paging_core.reference.programs import (
    HUGE_PAGE,
    NEAR_PAGES,
    Op,
    Program,
    long_program,
)

GROUP_FRAMES = (1, 4, 64, 512, 2048)
HUGE_PAGES = [HUGE_PAGE + i for i in (0, 1, 31, 32, 200, 511)] + NEAR_PAGES[4:16]


def groups(paging: Paging) -> Iterator[GroupPolicy]:
    scopes = GroupScope if paging is Paging.SHADOW else [GroupScope.PHYSICAL]
    for frames, scope, d_bit_filter in product(GROUP_FRAMES, scopes, (False, True)):
        yield GroupPolicy(frames, scope, d_bit_filter)
    yield GroupPolicy(adaptive=True)
    yield GroupPolicy(16, trigger=2)


def trackers() -> Iterator[TrackerConfig]:
    for paging in Paging:
        for clean, group in product(CLEAN_POLICIES[paging], groups(paging)):
            yield TrackerConfig(paging, clean, group=group)
    for clean in CLEAN_POLICIES[Paging.HAP]:
        yield TrackerConfig(Paging.HAP, clean, pml=True)
    for clean in CLEAN_POLICIES[Paging.SHADOW]:
        for frames in (1, 64):
            group = GroupPolicy(frames, GroupScope.VIRTUAL)
            yield TrackerConfig(Paging.SHADOW, clean, group=group, out_of_sync=False)
            yield TrackerConfig(Paging.SHADOW, clean, group=group, shadow_pool_frames=32)
            yield TrackerConfig(clean=clean, group=group, hypervisor=Hypervisor.KVM)
            yield TrackerConfig(
                clean=clean, group=group, hypervisor=Hypervisor.KVM, shadow_pool_frames=32,
                out_of_sync=frames == 1,
            )  # fmt: skip
    yield from kvms()


def kvms() -> Iterator[TrackerConfig]:
    """What KVM alone has, under both kinds of paging."""
    kvm = TrackerConfig(hypervisor=Hypervisor.KVM)
    hap = replace(kvm, paging=Paging.HAP)
    yield replace(kvm, dirty_ring=128)
    yield replace(hap, dirty_ring=128)
    yield replace(hap, dirty_ring=1024, pml=True)
    for opening, frames in product(GroupOpening, (1, 16)):
        for clean in (CleanPolicy.WRITE_PROTECT, CleanPolicy.CLEAR_LOG):
            yield replace(kvm, group_opening=opening, group=GroupPolicy(frames), clean=clean)
    yield replace(
        kvm, group_opening=GroupOpening.UFFD_SHARED, shadow_pool_frames=32, out_of_sync=False
    )
    for slots, zap in product((1, 7), SlotZap):
        yield replace(kvm, clean=CleanPolicy.BLOW, memory_slots=slots, slot_zap=zap)
    for split in SuperpageSplit:
        for pml in (False, True):
            yield replace(hap, split=split, pml=pml)
            yield replace(
                hap, split=split, pml=pml, clean=CleanPolicy.CLEAR_LOG, initially_set=True
            )
    yield replace(kvm, clean=CleanPolicy.CLEAR_LOG, initially_set=True)


def tracker_id(tracker: TrackerConfig) -> str:
    group = tracker.group
    parts = [tracker.paging, tracker.clean_policy, str(group.frames), group.scope]
    options = {
        "filter": group.d_bit_filter,
        "trigger": group.trigger > 1,
        "adaptive": group.adaptive,
        "pml": tracker.pml,
        "kvm": tracker.hypervisor is Hypervisor.KVM,
        tracker.group_opening: tracker.uses_userfaultfd,
        "full": tracker.initially_set,
        f"slots-{tracker.memory_slots}-{tracker.slot_zap}": tracker.memory_slots > 1,
        f"{tracker.superpage_split}": tracker.split is not None,
        "ring": tracker.dirty_ring > 0,
        "in-sync": not tracker.out_of_sync,
        "small-pool": tracker.shadow_pool_frames is not None,
    }
    return "-".join(parts + [name for name, on in options.items() if on])


every_tracker = pytest.mark.parametrize("tracker", list(trackers()), ids=tracker_id)


def copy_dirty(guest: ModelGuest, copy: GuestMemory) -> int:
    """One round: what the tracker reports goes over; the number of frames."""
    gfns = log_dirty.frames_of(get_and_clear(guest).dirty)
    copy.words[gfns] = guest.memory.words[gfns]
    return len(gfns)


def differing(guest: ModelGuest, copy: GuestMemory) -> list[int]:
    return np.flatnonzero((guest.memory.words != copy.words).any(axis=1)).tolist()


def check_precopy(guest: ModelGuest, rounds: list[Program], later: Program) -> None:
    copy = GuestMemory(guest.n_frames)
    guest.start_tracking()
    copy.words[:] = guest.memory.words
    for program in rounds:
        run(guest, program)
        copy_dirty(guest, copy)
        assert differing(guest, copy) == []  # the guest stood still since the clean
    moved = ModelGuest.resume(copy, guest.state(), Silent())
    run(guest, later)
    run(moved, later)
    assert differing(guest, copy) == []
    assert guest.architectural_state() == moved.architectural_state()


def cut(program: Program, lengths: tuple[int, ...]) -> list[Program]:
    """The program in parts of these lengths, over and over."""
    parts: list[Program] = []
    at = 0
    while at < len(program):
        length = lengths[len(parts) % len(lengths)]
        parts.append(program[at : at + length])
        at += length
    return parts


@every_tracker
def test_precopy_loses_no_update(tracker: TrackerConfig) -> None:
    """Processes fork, switch and exit; pages come and go; rounds of very different lengths."""
    program = long_program(seed=11, n_steps=400)
    check_precopy(boot(tracker), cut(program[:300], (25, 3, 60)), program[300:])


@every_tracker
def test_precopy_of_superpages_loses_no_update(tracker: TrackerConfig) -> None:
    huge = Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)
    body = long_program(seed=5, n_steps=240, pages=HUGE_PAGES)
    guest = boot(tracker, 1536)
    run(guest, [huge])
    check_precopy(guest, cut(body[:200], (20, 2, 60)), body[200:])


class Busy:
    """A real workload's shape in a few lines: hot pages, cold pages, a fork now and then."""

    spec = "busy"

    def setup(self) -> ops.Ops:
        return np.array([(0x400000, 96, 0, 0, ops.MMAP, 0)], ops.OP_DTYPE)

    def fill(self, position: int, operations: ops.Ops) -> None:
        at = np.arange(position, position + len(operations), dtype=np.int64)
        mixed = (at * 2654435761 >> 7) % 1009
        page = np.where(mixed % 4 == 0, mixed % 96, mixed % 8)
        operations["kind"] = np.where(mixed % 3 == 0, ops.READ, ops.WRITE)
        operations["address"] = 0x400000 + page * 4096 + mixed % 512 * 8
        operations["value"] = at
        operations["words"] = 1
        operations["gap_ps"] = 700


@every_tracker
def test_precopy_of_a_running_workload_loses_no_update(tracker: TrackerConfig) -> None:
    """Rounds end where guest time says, not between two operations that a test chose."""
    guest = ModelGuest.boot(GuestConfig(512 * 4096, tracker, "busy"), workload=Busy())
    copy = GuestMemory(guest.n_frames)
    guest.start_tracking()
    copy.words[:] = guest.memory.words
    for round_ns in (500_000, 90_000, 20_000, 5_000):
        guest.run(guest.time_ns + round_ns)
        copy_dirty(guest, copy)
        assert differing(guest, copy) == []
    moved = ModelGuest.resume(copy, guest.state(), Busy())
    assert moved.position == guest.position > 0
    for twin in (guest, moved):
        twin.run_accesses(3000)
    assert differing(guest, copy) == []
    assert guest.architectural_state() == moved.architectural_state()
