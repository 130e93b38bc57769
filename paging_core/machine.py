"""Making a machine: the arrays of `paging_core.kernels.state`, sized for a guest."""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from paging_core.config import (
    GroupScope,
    GuestConfig,
    GuestTables,
    Paging,
    ReadMapping,
    ShadowMmu,
    ViolationHandling,
)
from paging_core.kernels.adaptive import MAX_ORDER, REGION_WORDS
from paging_core.kernels.exits import entry_addresses
from paging_core.kernels.p2m import build_p2m
from paging_core.kernels.state import (
    ACCESSED,
    ARRAYS,
    BASELINE_WORDS,
    CORE_DTYPE,
    DIRTY,
    ENTRIES,
    FRAME_DTYPE,
    HAP,
    N_OOS,
    PAGE_DTYPE,
    SHADOW,
    TLB_DTYPE,
    Core,
    IntArray,
    Records,
)
from paging_core.kernels.userfault import HOST_WRITABLE, OFF, POPULATED, SHARED
from paging_core.kvm_options import GroupOpening, SlotZap, SuperpageSplit
from paging_core.log_dirty import n_words
from paging_core.memory import GuestMemory

_BASELINE_SLACK = 1024
_UFFD_MODES = {
    GroupOpening.FAULT: OFF,
    GroupOpening.UFFD_SHARED: SHARED,
    GroupOpening.UFFD_POPULATED: POPULATED,
}


class Machine(NamedTuple):
    """The owner of everything that the kernels work on.

    Attributes:
        core: one record of CORE_DTYPE (array of length 1): registers, counters, addresses.
        memory: guest memory, int64 (n_frames, 512).
        tlb: TLB_DTYPE, direct-mapped.
        frames: FRAME_DTYPE, by gfn.
        regions: row of `baseline` per 2 MiB of guest memory, user and kernel mapping, int64.
        dirty: the log-dirty bitmap, int64 words.
        pages: PAGE_DTYPE, the shadow pool; entries: its content, int64 (pool, 512).
        links: reverse map, next and previous per shadow entry, int32 (pool × 512, 2).
        buckets: heads of the shadow hash chains, int64.
        stack: scratch for teardown; KVM's shadow pages that are out of sync. int64.
        baseline: what shadow L1s would hold without tracking, int64 (rows, 16).
        p2m: P2M entries as flags, uint8, level 1 first (see kernels/hap.py).
        pml: the page-modification log, int64 (pml_buffer_entries,).
        snapshots: out-of-sync tables as they were, int64 (3, 512).
        groups: what adaptive groups know of each 512 frames, int64 (regions, 24).
        awaiting_send: opened frames of which only the sender can tell if they changed, int64
            words.
        ring: KVM's dirty ring, int64 (dirty_ring,).
        host: what the host's page tables let be written, uint8 (n_frames,); (1,) unless
            userfaultfd protects pages.
    """

    core: Records
    memory: IntArray
    tlb: Records
    frames: Records
    regions: IntArray
    dirty: IntArray
    pages: Records
    entries: IntArray
    links: npt.NDArray[np.int32]
    buckets: IntArray
    stack: IntArray
    baseline: IntArray
    p2m: npt.NDArray[np.uint8]
    pml: IntArray
    snapshots: IntArray
    groups: IntArray
    awaiting_send: IntArray
    ring: IntArray
    host: npt.NDArray[np.uint8]

    @property
    def record(self) -> Core:
        """The core as the record that kernels take."""
        return cast("Core", self.core[0])


def make_machine(config: GuestConfig, memory: GuestMemory) -> Machine:
    """A machine whose guest has not booted: no tables, nothing tracked."""
    n = config.n_frames
    shadow = config.tracker.paging is Paging.SHADOW
    pool = config.shadow_pool_frames or 1  # HAP: one keeps the arrays from being empty
    regions = -(-n // ENTRIES)
    rows = 2 * regions + _BASELINE_SLACK if shadow else 1
    machine = Machine(
        core=np.zeros(1, CORE_DTYPE),
        memory=memory.words,
        tlb=np.zeros(config.tracker.tlb_entries, TLB_DTYPE),
        frames=np.zeros(n, FRAME_DTYPE),
        regions=np.full(2 * regions, -1, np.int64),
        dirty=np.zeros(n_words(n), np.int64),
        pages=np.zeros(pool, PAGE_DTYPE),
        entries=np.zeros((pool, ENTRIES), np.int64),
        links=np.full((pool * ENTRIES, 2), -1, np.int32),
        buckets=np.full(pool, -1, np.int64),
        stack=np.zeros(pool + 1, np.int64),
        baseline=np.zeros((rows, BASELINE_WORDS), np.int64),
        p2m=np.zeros(1 if shadow else n + 2 * regions + 8, np.uint8),
        pml=np.zeros(config.tracker.pml_buffer_entries, np.int64),
        snapshots=np.zeros((N_OOS, ENTRIES), np.int64),
        groups=np.zeros((regions, REGION_WORDS), np.int64),
        awaiting_send=np.zeros(n_words(n), np.int64),
        ring=np.zeros(max(1, config.tracker.dirty_ring), np.int64),
        host=np.full(n if config.tracker.uses_userfaultfd else 1, HOST_WRITABLE, np.uint8),
    )
    _address(machine)
    _configure(machine, config)
    _make_lists(machine)
    if not shadow:
        build_p2m(machine.record)
    return machine


def copy_machine(source: Machine, target: Machine) -> None:
    """Make a machine stand as another of the same configuration does; memory is not copied.

    It notes no flow, whatever the other does.
    """
    for name, array in source._asdict().items():
        if name not in {"core", "memory"}:
            getattr(target, name)[:] = array
    for name in CORE_DTYPE.names or ():
        if not name.endswith("_at") and name != "flow":
            target.core[name] = source.core[name]


def _address(machine: Machine) -> None:
    """Tell the core where the arrays are and how long."""
    core = machine.core
    for name in ARRAYS:
        core[f"{name}_at"] = getattr(machine, name).ctypes.data
    for field, address in entry_addresses().items():
        core[field] = address
    core["n_frames"] = len(machine.memory)
    core["log"]["dirty_words"] = len(machine.dirty)
    core["shadow"]["pool_pages"] = len(machine.pages)
    core["shadow"]["n_buckets"] = len(machine.buckets)
    core["hap"]["p2m_entries"] = len(machine.p2m)
    core["tlb"]["entries"] = len(machine.tlb)


def _configure(machine: Machine, config: GuestConfig) -> None:
    tracker = config.tracker
    core = machine.core
    linux = config.guest_tables is GuestTables.LINUX
    core["fresh_bits"] = ACCESSED | DIRTY if linux else 0
    core["paging"] = SHADOW if tracker.paging is Paging.SHADOW else HAP
    core["shadow"]["prefetch"] = tracker.prefetch
    core["shadow"]["out_of_sync"] = tracker.out_of_sync
    core["shadow"]["reads_map_writable"] = tracker.read_mapping is ReadMapping.WRITABLE
    core["hap"]["pml"] = tracker.pml
    core["hap"]["pml_entries"] = tracker.pml_buffer_entries
    core["hap"]["syncs"] = tracker.violation_handling is ViolationHandling.SYNC
    core["hap"]["fast"] = tracker.violation_handling is ViolationHandling.FAST
    core["hap"]["splits_eagerly"] = tracker.superpage_split is SuperpageSplit.EAGER
    core["ring"]["entries"] = tracker.dirty_ring
    core["ring"]["limit"] = tracker.ring_limit
    core["uffd"]["mode"] = _UFFD_MODES[tracker.group_opening]
    core["log"]["starts_full"] = tracker.initially_set
    for name, value in asdict(tracker.clean_rules).items():
        core["clean"][name] = value
    core["group"]["adaptive"] = tracker.group.adaptive
    core["group"]["frames"] = 1 << MAX_ORDER if tracker.group.adaptive else tracker.group.frames
    core["group"]["trigger"] = tracker.group.trigger
    core["group"]["virtual"] = tracker.group.scope is GroupScope.VIRTUAL
    core["tlb"]["mask"] = tracker.tlb_entries - 1
    core["time"]["cost_ps"] = config.costs.as_picoseconds()
    core["shadow"]["oos_gfn"] = core["shadow"]["twin_oos_gfn"] = -1
    core["shadow"]["root"] = -1
    core["kvm"]["mmu"] = tracker.mmu is ShadowMmu.KVM
    core["kvm"]["slot_frames"] = -(-config.n_frames // tracker.memory_slots)
    core["kvm"]["zaps_slot"] = tracker.slot_zap is SlotZap.SLOT
    core["kvm"]["oldest"] = core["kvm"]["newest"] = core["kvm"]["previous"] = -1


def _make_lists(machine: Machine) -> None:
    """Free lists, empty reverse maps, invalid TLB slots."""
    pool = len(machine.pages)
    machine.pages["hash_next"] = np.arange(1, pool + 1)
    machine.pages["hash_next"][-1] = -1
    machine.core["shadow"]["free_pages"] = pool
    machine.core["shadow"]["pin_head"] = machine.core["shadow"]["pin_tail"] = -1
    machine.baseline[:, 0] = np.arange(1, len(machine.baseline) + 1)
    machine.baseline[-1, 0] = -1
    machine.frames["rmap"] = -1
    machine.frames["baseline"] = -1
    machine.tlb["tag"] = -1
    machine.tlb["base_generation"] = -1
