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


class CleanView:
    """Fields of a CLEAN_DTYPE."""

    drops_all: int
    has_reverse_map: int
    defers: int


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
    lessons_at: int
    translate_miss_at: int
    emulate_store_at: int
    flow_at: int
    flow_full_at: int
    vcpu: VcpuView
    n_frames: int
    dirty_words: int
    pool_pages: int
    n_buckets: int
    p2m_entries: int
    tlb_entries: int
    paging: int
    prefetch: int
    out_of_sync: int
    pml: int
    group_frames: int
    group_virtual: int
    group_trigger: int
    adaptive: int
    clean: CleanView
    taught: int
    tlb_mask: int
    p2m_start: Ints
    log_dirty: int
    tlb_generation: int
    tlb_base_generation: int
    root: int
    free_page: int
    free_pages: int
    pin_head: int
    pin_tail: int
    free_baseline: int
    pml_used: int
    oos_gfn: Ints
    oos_next: int
    kernel_work: int
    dirty_count: int
    fault_count: int
    run_ps: int
    spent_ps: int
    base_ps: int
    cause_ps: Ints
    cost_ps: Ints
    base_events: Ints
    tracking_events: Ints
    faults: Ints
    shadow_pages_built: int
    shadow_pages_dropped: int
    flow_rows: int
    flow_used: int
    flow_leader: int


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
