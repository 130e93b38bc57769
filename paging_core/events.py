"""Every event that the model counts and prices, and the causes they are summed under.

An event is either *base* (the guest would pay it untracked as well) or *tracking* (it
happens only because log-dirty is on). Kernels decide which one at the moment it happens:
the same fault is base when the entry was never there, tracking when a clean took it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Event(IntEnum):
    """Index of an event in the kernels' count and cost arrays."""

    # The guest itself; never caused by tracking.
    ACCESS = 0
    GUEST_FAULT = 1
    GUEST_PAGE_CLEAR = 2
    GUEST_PAGE_COPY = 3
    # Translation.
    TLB_MISS_1D = 4
    TLB_MISS_2D = 5
    TLB_FLUSH = 6
    # Shadow paging.
    EXIT = 7
    FIXUP = 8
    SHADOW_L1E_BUILD = 9
    SHADOW_PREFETCH = 10
    SHADOW_PAGE_BUILD = 11
    SHADOW_TEARDOWN_PAGE = 12
    SHADOW_TEARDOWN_ENTRY = 13
    EMULATED_WRITE = 14
    WRITE_PROTECT_FRAME = 15
    OUT_OF_SYNC = 16
    RESYNC = 17
    # Log-dirty.
    MARK_DIRTY = 18
    GROUP_OPEN = 19
    D_BIT_SCAN = 20
    BITMAP_COPY = 21
    # HAP.
    P2M_VIOLATION = 22
    P2M_SYNC = 23
    P2M_MISCONFIG = 24
    P2M_REARM_ENTRY = 25
    P2M_SPLIT = 26
    PML_FULL = 27
    PML_ENTRY = 28
    # The sender.
    PAGE_DIGEST = 29
    # Instructions of the guest's kernel that exit under shadow paging.
    CR3_LOAD = 30
    INVLPG = 31
    # A system call of the guest.
    GUEST_FILE_CALL = 32
    # Page groups by userfaultfd, KVM's memory slots and its fast path.
    UFFD_FAULT = 33
    UFFD_OPEN = 34
    UFFD_PROTECT = 35
    HOST_FAULT = 36
    SLOT_LOOKUP = 37
    P2M_FAST_FAULT = 38


N_EVENTS = len(Event)


class Fault(IntEnum):
    """Index of a fault kind: exits that the guest's accesses took."""

    READ_BUILD = 0
    WRITE_BUILD = 1
    WRITE_PROTECT = 2
    EMULATED_WRITE = 3
    P2M_VIOLATION = 4
    MISCONFIGURATION = 5
    PML_FULL = 6
    USERFAULT = 7
    FIXUP = 8
    """Not a kind of its own: of the faults above, those that opened a clean frame."""


N_FAULTS = len(Fault)
FAULTS_SINCE_0_1 = frozenset({"userfault"})
"""Kinds that documents of version 0.1 do not have."""
FAULT_KINDS = tuple(fault.name.lower() for fault in Fault)
"""Keys of `GuestCounters.faults`, in order; ``total`` sums all but ``fixup``."""


class Cause(IntEnum):
    """What tracking time is spent on."""

    FIXUP = 0
    """Exits that made a clean frame writable and marked it dirty."""
    REBUILD = 1
    """Shadow entries and pages built again after a clean took them."""
    TEARDOWN = 2
    """Shadow pages and entries dropped by a clean."""
    GROUP = 3
    """Opening and marking the other frames of a group; the D-bit filter."""
    WRITE_PROTECT = 4
    """Revoking write access frame by frame."""
    P2M = 5
    """Misconfiguration exits, re-armed entries, splits."""
    PML = 6
    """Draining page-modification buffers."""
    TLB = 7
    """Flushes, and misses on translations that a flush took."""
    BITMAP = 8
    """Copying the log-dirty bitmap out."""


N_CAUSES = len(Cause)
CAUSES = tuple(cause.name.lower() for cause in Cause)
"""Keys of `GuestCounters.tracking_ns`, in order."""


@dataclass(frozen=True)
class EventCost:
    """The price of one event, nanoseconds.

    Attributes:
        low, high: between which it lies, as far as the source goes.
        typical: what is charged unless somebody says otherwise.
        source: where the figures come from.
    """

    low: float
    typical: float
    high: float
    source: str


UNATTRIBUTED_HELP = (
    "What the causes do not explain of the tracked guest's time beyond its untracked twin's; "
    "negative where they explain too much. Absent without a twin."
)
"""What stands beside the causes of `paging_core.guest_accounts`, for display."""
