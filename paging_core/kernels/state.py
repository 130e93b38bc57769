"""The whole machine as arrays and one record: the types that every kernel works on.

Memory beyond the guest's own, per frame: 12 B in `frames`, 1 bit each in `dirty` and
`awaiting_send`, 1 B in `p2m` (HAP) or 8 KiB per shadow page in `entries` and `links` (one page
per MiB): about 1.1 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from paging_core.events import N_CAUSES, N_EVENTS, N_FAULTS
from paging_core.kernels.views import CoreView
from paging_core.units import WORDS_PER_FRAME
from paging_core.workloads.ops import MAX_PROCESSES

IntArray = npt.NDArray[np.int64]
Records = Any
"""A NumPy array of records, whose fields have names in brackets (`core["root"]`)."""

# Paging modes and clean policies as the kernels see them.
SHADOW = 0
HAP = 1

# x86-64 page table entry bits, of guest tables and of shadow entries alike.
PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
SUPERPAGE = 1 << 7
GUEST_COW = 1 << 9
"""Guest entries (software bit): read-only because of fork, or private; copy on write."""
HOST_WRITES = 1 << 10
"""Shadow L1 entries of KVM (software bit): the host let the page be written when this was made
(shadow_host_writable_mask). Kept under userfaultfd alone."""
GUEST_WRITES = 1 << 9
"""Shadow L1 entries (software bit): the guest's own tables let it write here."""
ENTRIES = WORDS_PER_FRAME
"""Of a page table, the guest's or a shadow; frames of a superpage."""
SLOT_MASK = ENTRIES - 1
WORD_MASK = WORDS_PER_FRAME - 1

# Kinds of shadow page; a guest frame shadowed as kind k has bit k of `frames.types` set.
FREE = 0
L1 = 1
FL1 = 2
"""Shadow L1 of a guest 2 MiB superpage, which has no guest L1 table."""
L2 = 3
L3 = 4
L4 = 5

N_OOS = 3
"""Out-of-sync L1 tables per vCPU (Xen's SHADOW_OOS_PAGES)."""
OUT_OF_MEMORY = 1
"""Value of `vcpu.out_of_memory`: the guest's kernel found no free frame. Nothing runs after it."""
PANICKED = 2
"""Likewise: it found nonsense in its own tables or counts."""
OPENED = 1
"""Value of `frames.opened`: dirty only as the neighbour of a fixup."""
OPENED_AND_WRITTEN = 2
"""Likewise, and its first write was noted in the flow."""
ZERO_FRAME = 0
"""Reserved: a kernel like Linux maps it, shared and read-only, where a fresh page is only read."""
KERNEL_BASE = 1 << 47
"""Where the guest kernel maps all guest memory (its direct map)."""
BASELINE_WORDS = 16
"""Per known guest L1 table: 512 bits present, then 512 bits writable."""

VCPU_DTYPE = np.dtype(
    [
        ("cr3", np.int64),
        ("process", np.int64),
        ("roots", np.int64, (MAX_PROCESSES,)),
        ("kernel_table", np.int64),
        ("first_frame", np.int64),
        ("alloc_hint", np.int64),
        ("free_frames", np.int64),
        ("position", np.int64),
        ("out_of_memory", np.int64),
        ("mappings", np.int64, (MAX_PROCESSES,)),  # frame of what each maps of the file, or 0
        ("file_index", np.int64),  # root of the page cache's index, or 0
    ]
)
"""The guest itself beside its memory: all of it migrates."""

RING_DTYPE = np.dtype(
    [
        ("entries", np.int64),  # that it holds
        ("limit", np.int64),  # with which it is full; 0 if there is no ring
        ("used", np.int64),
        ("overrun", np.int64),  # something was marked that it had no room for
        # counters
        ("pushed", np.int64),
        ("full", np.int64),
    ]
)
"""KVM's dirty ring."""

UFFD_DTYPE = np.dtype(
    [
        ("mode", np.int64),  # OFF, SHARED or POPULATED of userfault.py
    ]
)
"""Page groups by userfaultfd."""

CLEAN_DTYPE = np.dtype(
    [
        ("drops_all", np.int64),
        ("has_reverse_map", np.int64),
        ("by_bitmap", np.int64),
        ("defers", np.int64),
    ]
)
"""The clean policy: `paging_core.config.CleanRules`, field by field, as 0 or 1."""

ARRAYS = (
    "memory", "tlb", "frames", "regions", "dirty", "pages", "entries", "links",
    "buckets", "stack", "baseline", "p2m", "pml", "snapshots",
    "groups", "awaiting_send", "ring", "host",
)  # fmt: skip
"""Names of the machine's arrays; the core record holds the address of each."""

LOG_DTYPE = np.dtype(
    [
        ("enabled", np.int64),
        ("dirty_words", np.int64),  # of the bitmap
        ("starts_full", np.int64),  # enabling protects nothing, and reports every frame
        # reset by a clean
        ("dirty_count", np.int64),
        ("fault_count", np.int64),
    ]
)
"""Log-dirty."""

SHADOW_DTYPE = np.dtype(
    [
        # configuration
        ("prefetch", np.int64),
        ("out_of_sync", np.int64),
        ("reads_map_writable", np.int64),
        ("pool_pages", np.int64),
        ("n_buckets", np.int64),
        # state
        ("root", np.int64),
        ("root_blown", np.int64),  # a blow has unpinned it
        ("free_page", np.int64),
        ("free_pages", np.int64),
        ("pin_head", np.int64),
        ("pin_tail", np.int64),
        ("free_baseline", np.int64),
        ("oos_gfn", np.int64, (N_OOS,)),
        ("oos_next", np.int64),
        ("twin_oos_gfn", np.int64, (N_OOS,)),  # as the untracked twin has them
        ("twin_oos_next", np.int64),
        # counters
        ("pages_built", np.int64),
        ("pages_dropped", np.int64),
    ]
)
"""Shadow paging."""

N_PREVIOUS_ROOTS = 3
"""Roots that KVM keeps beside the current one (KVM_MMU_NUM_PREV_ROOTS)."""

KVM_DTYPE = np.dtype(
    [
        # configuration
        ("mmu", np.int64),  # shadow paging is KVM's; otherwise it is Xen's
        ("slot_frames", np.int64),  # of a memory slot
        ("zaps_slot", np.int64),  # a deleted slot takes its own shadows alone
        # state
        ("oldest", np.int64),  # shadow page, by creation
        ("newest", np.int64),
        ("previous", np.int64, (N_PREVIOUS_ROOTS,)),  # roots, most recent first; -1 for none
        ("epoch", np.int64),  # of `pages.mark`
        ("unsync", np.int64),  # pages out of sync now; `stack` holds them
        ("trapped", np.int64),  # a fault has paid for the emulated store that comes
        # counters, as KVM's own
        ("taken", np.int64),  # pf_taken
        ("fixed", np.int64),
        ("fast", np.int64),
        ("spurious", np.int64),
        ("emulated", np.int64),
        ("to_guest", np.int64),  # pf_guest
        ("cache_miss", np.int64),
        ("zapped", np.int64),
        ("recycled", np.int64),
        ("flooded", np.int64),
        ("pde_zapped", np.int64),
    ]
)
"""KVM's shadow MMU."""

HAP_DTYPE = np.dtype(
    [
        ("pml", np.int64),  # hardware logs writes
        ("pml_entries", np.int64),  # that its buffer holds
        ("pml_used", np.int64),
        ("syncs", np.int64),  # a present entry that changes is synced at once
        ("fast", np.int64),  # KVM: writes are given back without the lock
        ("splits_eagerly", np.int64),  # superpages are split when logging starts
        ("p2m_entries", np.int64),
        ("p2m_start", np.int64, (5,)),  # where each P2M level begins, by level
    ]
)
"""Hardware-assisted paging."""

TLB_STATE_DTYPE = np.dtype(
    [
        ("entries", np.int64),
        ("mask", np.int64),
        ("generation", np.int64),
        ("base_generation", np.int64),
    ]
)
"""The TLB as a whole."""

GROUP_DTYPE = np.dtype(
    [
        ("frames", np.int64),
        ("virtual", np.int64),
        ("trigger", np.int64),  # dirty frames with which a group opens
        ("adaptive", np.int64),
        ("send_feedback", np.int64),  # 1 once the sender has reported which frames had changed
    ]
)
"""Page groups."""

TIME_DTYPE = np.dtype(
    [
        # what the guest ran plus what events cost, picoseconds
        ("run_ps", np.int64),
        ("spent_ps", np.int64),
        ("base_ps", np.int64),
        ("cause_ps", np.int64, (N_CAUSES,)),
        ("cost_ps", np.int64, (N_EVENTS,)),
        ("base_events", np.int64, (N_EVENTS,)),
        ("cause_events", np.int64, (N_CAUSES * N_EVENTS,)),  # by cause, then by event
        ("faults", np.int64, (N_FAULTS,)),
    ]
)
"""Guest time, and the events that it is counted by."""

FLOW_STATE_DTYPE = np.dtype(
    [
        ("rows", np.int64),  # nothing is noted while this is 0
        ("used", np.int64),
        ("leader", np.int64),  # the gfn whose fixup opens its group now
    ]
)
"""The flow (paging_core.flow_buffer)."""

CORE_DTYPE = np.dtype(
    [(f"{name}_at", np.int64) for name in ARRAYS]
    + [
        # the hypervisor's entry points (exits.py)
        ("translate_miss_at", np.int64),
        ("emulate_store_at", np.int64),
        # the flow's rows, and who empties them
        ("flow_at", np.int64),
        ("flow_full_at", np.int64),
        # the guest
        ("vcpu", VCPU_DTYPE),
        ("n_frames", np.int64),
        ("fresh_bits", np.int64),  # set in each new entry: A and D by a kernel like Linux, or 0
        ("kernel_work", np.int64),  # frames that a fork or an exit of its kernel has come by
        # the hypervisor, by what its parts are for
        ("paging", np.int64),
        ("log", LOG_DTYPE),
        ("ring", RING_DTYPE),
        ("uffd", UFFD_DTYPE),
        ("clean", CLEAN_DTYPE),
        ("shadow", SHADOW_DTYPE),
        ("kvm", KVM_DTYPE),
        ("hap", HAP_DTYPE),
        ("tlb", TLB_STATE_DTYPE),
        ("group", GROUP_DTYPE),
        ("time", TIME_DTYPE),
        ("flow", FLOW_STATE_DTYPE),
    ],
    align=True,
)
"""One machine: where its arrays are, the guest's registers, and configuration, state and counters
of each part of the hypervisor, as Xen's `paging_domain` groups them."""

TLB_DTYPE = np.dtype(
    [
        ("tag", np.int64),  # vpn | generation << 36; a flush is a new generation
        ("gfn", np.int64),
        ("base_generation", np.int64),  # as if only the guest itself ever flushed
        ("writable", np.uint8),  # writable and its D bits are set
        ("base_writable", np.uint8),
    ],
    align=True,
)

FRAME_DTYPE = np.dtype(
    [
        ("rmap", np.int32),  # first shadow L1 entry that maps the frame, or -1
        ("baseline", np.int32),  # row of `baseline` if it is a known guest L1 table, or -1
        ("types", np.uint8),  # kinds that it is shadowed as, a bit each
        ("seen", np.uint8),  # kinds that it would be shadowed as without tracking
        ("written", np.uint8),  # ground truth: really written since the last clean
        ("opened", np.uint8),  # 0, OPENED or OPENED_AND_WRITTEN
    ]
)

PAGE_DTYPE = np.dtype(
    [
        ("gfn", np.int64),  # the guest table; of an FL1, the superpage's first frame
        ("key", np.int64),  # what the hash finds it by: gfn; of an FL1, its guest L2 entry
        ("kind", np.int64),
        ("refs", np.int64),  # parent entries, plus one if pinned, plus one if in CR3
        ("pinned", np.int64),
        ("up", np.int64),  # a parent entry (page × 512 + slot), or -1
        ("hash_next", np.int64),
        ("pin_next", np.int64),
        ("pin_prev", np.int64),
        # KVM's
        ("access", np.int64),  # of its role: W and U of the path to it, and of a superpage's entry
        ("unsync", np.int64),  # its place in `stack`, plus one; 0 if it is in sync
        ("floods", np.int64),  # emulated writes since it was last used
        ("invalid", np.int64),  # zapped, and still some vCPU's root
        ("mark", np.int64),  # epoch in which it was found below another page
        ("older", np.int64),
        ("newer", np.int64),
    ]
)
"""One shadow page."""

Core = CoreView
"""One record of CORE_DTYPE: the first argument of every kernel. Its fields are checked by mypy."""
