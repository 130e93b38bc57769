"""Guests to attack: every kind of paging, clean policy and option, with tables worth attacking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    Hypervisor,
    MemoryFill,
    Paging,
    TrackerConfig,
)
from paging_core.kvm_options import GroupOpening, SlotZap, SuperpageSplit
from paging_core.memory import GuestMemory, Words
from paging_core.model_guest import ModelGuest
from paging_core.workloads import ops
from tests.paging_core.reference.programs import HUGE_PAGE, NEAR_PAGES, Op, as_ops, mmap, write

CHURN = "churn:wss=256KiB,region=64KiB,fork_every=40,children=3,words=3"
SMALL_BYTES, HUGE_BYTES = 400 * 4096, 1600 * 4096
"""The second has room for superpages and for their pages copied; neither is a multiple of 2 MiB."""

_SHADOW = (
    TrackerConfig(tlb_entries=16),
    TrackerConfig(clean=CleanPolicy.WRITE_PROTECT, shadow_pool_frames=32),
    TrackerConfig(clean=CleanPolicy.CLEAR_LOG, out_of_sync=True, tlb_entries=16),
    TrackerConfig(out_of_sync=True, shadow_pool_frames=40, prefetch=False),
    TrackerConfig(group=GroupPolicy(64, d_bit_filter=True), tlb_entries=64),
    TrackerConfig(clean=CleanPolicy.WRITE_PROTECT, group=GroupPolicy(2048, trigger=2)),
    TrackerConfig(group=GroupPolicy(64, GroupScope.PHYSICAL, trigger=3), out_of_sync=True),
    TrackerConfig(clean=CleanPolicy.CLEAR_LOG, group=GroupPolicy(512, GroupScope.PHYSICAL)),
    TrackerConfig(group=GroupPolicy(adaptive=True), shadow_pool_frames=48),
    TrackerConfig(
        clean=CleanPolicy.WRITE_PROTECT,
        group=GroupPolicy(adaptive=True, scope=GroupScope.PHYSICAL, d_bit_filter=True),
    ),
)
_KVM = (
    TrackerConfig(hypervisor=Hypervisor.KVM, tlb_entries=16),
    TrackerConfig(hypervisor=Hypervisor.KVM, clean=CleanPolicy.BLOW, shadow_pool_frames=32),
    TrackerConfig(hypervisor=Hypervisor.KVM, clean=CleanPolicy.CLEAR_LOG, out_of_sync=False),
    TrackerConfig(
        hypervisor=Hypervisor.KVM, shadow_pool_frames=36, tlb_entries=16, prefetch=False,
        group=GroupPolicy(512, d_bit_filter=True),
    ),
    TrackerConfig(hypervisor=Hypervisor.KVM, group=GroupPolicy(64, GroupScope.PHYSICAL)),
    TrackerConfig(hypervisor=Hypervisor.KVM, dirty_ring=128, tlb_entries=16),
    TrackerConfig(
        hypervisor=Hypervisor.KVM, group=GroupPolicy(64), shadow_pool_frames=40,
        group_opening=GroupOpening.UFFD_SHARED,
    ),
    TrackerConfig(
        hypervisor=Hypervisor.KVM, clean=CleanPolicy.BLOW, memory_slots=3, slot_zap=SlotZap.SLOT,
    ),
    TrackerConfig(hypervisor=Hypervisor.KVM, clean=CleanPolicy.CLEAR_LOG, initially_set=True),
    TrackerConfig(Paging.HAP, hypervisor=Hypervisor.KVM, dirty_ring=1024, pml=True),
    TrackerConfig(
        Paging.HAP, CleanPolicy.CLEAR_LOG, hypervisor=Hypervisor.KVM, initially_set=True,
        split=SuperpageSplit.ON_WRITE,
    ),
)  # fmt: skip
_HAP = (
    TrackerConfig(Paging.HAP, tlb_entries=16),
    TrackerConfig(Paging.HAP, CleanPolicy.EAGER, tlb_entries=64),
    TrackerConfig(Paging.HAP, CleanPolicy.CLEAR_LOG),
    TrackerConfig(Paging.HAP, pml=True),
    TrackerConfig(Paging.HAP, CleanPolicy.EAGER, pml=True, tlb_entries=16),
    TrackerConfig(Paging.HAP, CleanPolicy.CLEAR_LOG, pml=True, tlb_entries=16),
    TrackerConfig(Paging.HAP, group=GroupPolicy(64, d_bit_filter=True)),
    TrackerConfig(Paging.HAP, CleanPolicy.EAGER, group=GroupPolicy(4096)),
    TrackerConfig(Paging.HAP, CleanPolicy.CLEAR_LOG, group=GroupPolicy(512, trigger=2)),
    TrackerConfig(Paging.HAP, group=GroupPolicy(adaptive=True)),
)
TRACKERS = _SHADOW + _KVM + _HAP


@dataclass(frozen=True)
class Template:
    """A guest as it is before the attack.

    Attributes:
        words: its memory, int64, shape (n_frames, 512).
        state: what `ModelGuest.state` returned.
        tables: frames of its page tables, its kernel's among them.
        counts: frames of its reference counts.
    """

    words: Words
    state: bytes
    tables: tuple[int, ...]
    counts: tuple[int, ...]

    def arrive(self, memory: GuestMemory, state: bytes | None = None) -> ModelGuest:
        """It on this host, with the memory that stands there."""
        return ModelGuest.resume(memory, self.state if state is None else state)


def templates() -> Iterator[Template]:
    """One after the other: each tracker with churn in a small guest and with superpages."""
    for number, tracker in enumerate(TRACKERS):
        yield _template(tracker, SMALL_BYTES, number)
        yield _template(tracker, HUGE_BYTES, number)


def _template(tracker: TrackerConfig, memory_bytes: int, seed: int) -> Template:
    config = GuestConfig(memory_bytes, tracker, CHURN, seed=seed, fill=MemoryFill.RANDOM)
    with GuestMemory(config.n_frames) as memory:
        guest = ModelGuest.boot(config, memory)
        guest.run_accesses(150 + seed)
        guest.execute(_program(huge=memory_bytes == HUGE_BYTES))
        words = memory.words.copy()
        registers = guest.machine.core["vcpu"][0]
        roots = [int(root) for root in registers["roots"] if root]
        tables = sorted(_tables(words, roots))
        counts = range(1, int(registers["kernel_table"]))
        return Template(words, guest.state(), tuple(tables), tuple(counts))


def _program(*, huge: bool) -> ops.Ops:
    steps = [mmap(NEAR_PAGES[0], 24), *(write(page) for page in NEAR_PAGES[4:20])]
    steps += [Op(ops.MMAP_HUGE, HUGE_PAGE << 12, 512)] if huge else []
    steps += [Op(ops.FORK, 14), write(NEAR_PAGES[6]), Op(ops.MUNMAP, NEAR_PAGES[9] << 12, 2)]
    return as_ops(steps)


def _tables(words: Words, roots: list[int]) -> set[int]:
    """Every table, found without the code under test."""
    found, below = set(), [(root, 4) for root in roots]
    while below:
        table, level = below.pop()
        if table in found:
            continue
        found.add(table)
        entries = words[table][words[table] & 1 != 0] if level > 1 else np.zeros(0, np.int64)
        below += [(int(entry) >> 12, level - 1) for entry in entries if not entry & 128]
    return found
