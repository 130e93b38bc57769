"""What fields the machine's records have, for type checkers alone.

Classes for annotations, of which nothing is ever made. Generated from the dtypes by `make views`.
"""

from __future__ import annotations

from paging_core.kernels.pointers import Ints


class VcpuView:
    """Fields of a VCPU_DTYPE."""

    cr3: int
    process: int
    roots: Ints
    kernel_table: int
    first_frame: int
    alloc_hint: int
    free_frames: int
    position: int
    out_of_memory: int
    mappings: Ints
    file_index: int


class RingView:
    """Fields of a RING_DTYPE."""

    entries: int
    limit: int
    used: int
    overrun: int
    pushed: int
    full: int


class UffdView:
    """Fields of a UFFD_DTYPE."""

    mode: int


class CleanView:
    """Fields of a CLEAN_DTYPE."""

    drops_all: int
    has_reverse_map: int
    by_bitmap: int
    defers: int


class LogView:
    """Fields of a LOG_DTYPE."""

    enabled: int
    dirty_words: int
    starts_full: int
    dirty_count: int
    fault_count: int


class ShadowView:
    """Fields of a SHADOW_DTYPE."""

    prefetch: int
    out_of_sync: int
    reads_map_writable: int
    pool_pages: int
    n_buckets: int
    root: int
    root_blown: int
    free_page: int
    free_pages: int
    pin_head: int
    pin_tail: int
    free_baseline: int
    oos_gfn: Ints
    oos_next: int
    twin_oos_gfn: Ints
    twin_oos_next: int
    pages_built: int
    pages_dropped: int


class KvmView:
    """Fields of a KVM_DTYPE."""

    mmu: int
    slot_frames: int
    zaps_slot: int
    oldest: int
    newest: int
    previous: Ints
    epoch: int
    unsync: int
    trapped: int
    taken: int
    fixed: int
    fast: int
    spurious: int
    emulated: int
    to_guest: int
    cache_miss: int
    zapped: int
    recycled: int
    flooded: int
    pde_zapped: int


class HapView:
    """Fields of a HAP_DTYPE."""

    pml: int
    pml_entries: int
    pml_used: int
    syncs: int
    fast: int
    splits_eagerly: int
    p2m_entries: int
    p2m_start: Ints


class TlbStateView:
    """Fields of a TLB_STATE_DTYPE."""

    entries: int
    mask: int
    generation: int
    base_generation: int


class GroupView:
    """Fields of a GROUP_DTYPE."""

    frames: int
    virtual: int
    trigger: int
    adaptive: int
    send_feedback: int


class TimeView:
    """Fields of a TIME_DTYPE."""

    run_ps: int
    spent_ps: int
    base_ps: int
    cause_ps: Ints
    cost_ps: Ints
    base_events: Ints
    cause_events: Ints
    faults: Ints


class FlowStateView:
    """Fields of a FLOW_STATE_DTYPE."""

    rows: int
    used: int
    leader: int


class CoreView:
    """Fields of a CORE_DTYPE."""

    memory_at: int
    tlb_at: int
    frames_at: int
    regions_at: int
    dirty_at: int
    pages_at: int
    entries_at: int
    links_at: int
    buckets_at: int
    stack_at: int
    baseline_at: int
    p2m_at: int
    pml_at: int
    snapshots_at: int
    groups_at: int
    awaiting_send_at: int
    ring_at: int
    host_at: int
    translate_miss_at: int
    emulate_store_at: int
    flow_at: int
    flow_full_at: int
    vcpu: VcpuView
    n_frames: int
    fresh_bits: int
    kernel_work: int
    paging: int
    log: LogView
    ring: RingView
    uffd: UffdView
    clean: CleanView
    shadow: ShadowView
    kvm: KvmView
    hap: HapView
    tlb: TlbStateView
    group: GroupView
    time: TimeView
    flow: FlowStateView


class TlbView:
    """Fields of a TLB_DTYPE."""

    tag: int
    gfn: int
    base_generation: int
    writable: int
    base_writable: int


class FrameView:
    """Fields of a FRAME_DTYPE."""

    rmap: int
    baseline: int
    types: int
    seen: int
    written: int
    opened: int


class PageView:
    """Fields of a PAGE_DTYPE."""

    gfn: int
    key: int
    kind: int
    refs: int
    pinned: int
    up: int
    hash_next: int
    pin_next: int
    pin_prev: int
    access: int
    unsync: int
    floods: int
    invalid: int
    mark: int
    older: int
    newer: int


class OpView:
    """Fields of a OP_DTYPE."""

    address: int
    value: int
    gap_ps: int
    words: int
    kind: int


class FlowView:
    """Fields of a FLOW_DTYPE."""

    time_ps: int
    gfn: int
    leader: int
    kind: int
    detail: int
    space: int
