"""Making a machine: the arrays of `paging_core.kernels.state`, sized for a guest."""

from __future__ import annotations

import numpy as np

from paging_core.config import GroupScope, GuestConfig, Paging
from paging_core.kernels.hap import build_p2m
from paging_core.kernels.state import (
    BASELINE_WORDS,
    FRAME_DTYPE,
    HAP,
    HOST_DTYPE,
    N_OOS,
    PAGE_DTYPE,
    PML_ENTRIES,
    SHADOW,
    TLB_DTYPE,
    VCPU_DTYPE,
    Machine,
)
from paging_core.log_dirty import n_words
from paging_core.memory import GuestMemory

FRAMES_PER_MIB = 256
POOL_FRAMES_PER_VCPU = 256
"""Xen's toolstack: 1 MiB of shadow pool per vCPU, plus a frame per MiB of guest memory."""
_BASELINE_SLACK = 1024


def pool_frames(config: GuestConfig) -> int:
    """Shadow pages in the pool (HAP needs none; one keeps the arrays from being empty)."""
    if config.tracker.paging is Paging.HAP:
        return 1
    if config.tracker.shadow_pool_frames is not None:
        return config.tracker.shadow_pool_frames
    return POOL_FRAMES_PER_VCPU + config.n_frames // FRAMES_PER_MIB


def make_machine(config: GuestConfig, memory: GuestMemory) -> Machine:
    """A machine whose guest has not booted: no tables, nothing tracked."""
    n = config.n_frames
    shadow = config.tracker.paging is Paging.SHADOW
    pool = pool_frames(config)
    regions = -(-n // 512)
    rows = 2 * regions + _BASELINE_SLACK if shadow else 1
    machine = Machine(
        memory=memory.words,
        vcpu=np.zeros(1, VCPU_DTYPE),
        host=np.zeros(1, HOST_DTYPE),
        tlb=np.zeros(config.tracker.tlb_entries, TLB_DTYPE),
        frames=np.zeros(n, FRAME_DTYPE),
        regions=np.full(regions, -1, np.int32),
        dirty=np.zeros(n_words(n), np.int64),
        pages=np.zeros(pool, PAGE_DTYPE),
        entries=np.zeros((pool, 512), np.int64),
        links=np.full((pool * 512, 2), -1, np.int32),
        buckets=np.full(max(1, pool), -1, np.int32),
        stack=np.zeros(pool + 1, np.int32),
        baseline=np.zeros((rows, BASELINE_WORDS), np.int64),
        p2m=np.zeros(1 if shadow else n + 2 * regions + 8, np.uint8),
        pml=np.zeros(PML_ENTRIES, np.int64),
        snapshots=np.zeros((N_OOS, 512), np.int64),
    )
    _configure(machine, config)
    _make_lists(machine)
    if not shadow:
        build_p2m(machine)
    return machine


def _configure(machine: Machine, config: GuestConfig) -> None:
    tracker = config.tracker
    host = machine.host
    host["paging"] = SHADOW if tracker.paging is Paging.SHADOW else HAP
    host["prefetch"] = tracker.prefetch
    host["out_of_sync"] = tracker.out_of_sync
    host["pml"] = tracker.pml
    host["group_frames"] = tracker.group.frames
    host["group_virtual"] = tracker.group.scope is GroupScope.VIRTUAL
    host["tlb_mask"] = tracker.tlb_entries - 1
    host["cost_ps"] = config.costs.as_picoseconds()
    host["oos_gfn"] = -1
    host["root"] = -1


def _make_lists(machine: Machine) -> None:
    """Free lists, empty reverse maps, invalid TLB slots."""
    pool = len(machine.pages)
    machine.pages["hash_next"] = np.arange(1, pool + 1)
    machine.pages["hash_next"][-1] = -1
    machine.host["free_pages"] = pool
    machine.host["pin_head"] = machine.host["pin_tail"] = -1
    machine.baseline[:, 0] = np.arange(1, len(machine.baseline) + 1)
    machine.baseline[-1, 0] = -1
    machine.frames["rmap"] = -1
    machine.frames["baseline"] = -1
    machine.tlb["tag"] = -1
    machine.tlb["base_generation"] = -1
