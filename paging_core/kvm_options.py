"""Choices that KVM gives beside its clean policy; `paging_core.config` declares the settings."""

from __future__ import annotations

from enum import StrEnum


class GroupOpening(StrEnum):
    """Who opens a page group."""

    FAULT = "fault"
    """The hypervisor, in the fault that opens the first frame: the proposal of 2009."""
    UFFD_SHARED = "uffd-shared"
    """User space, by userfaultfd: guest memory that is shared, whose opened pages the host's own
    page tables keep read-only until it has faulted on each."""
    UFFD_POPULATED = "uffd-populated"
    """The same with private memory, or with a handler that populates what it opens
    (MADV_POPULATE_WRITE): KVM fills its blocks of 8 again."""


class SlotZap(StrEnum):
    """Whose shadows go when a memory slot is deleted."""

    ALL = "all"
    """Those of every slot: KVM_X86_QUIRK_SLOT_ZAP_ALL, which is on unless somebody disables it."""
    SLOT = "slot"
    """The entries that map it, and the shadow pages of guest tables in it."""


class SuperpageSplit(StrEnum):
    """When superpages of the P2M are split for logging."""

    ON_WRITE = "on-write"
    """By the first write to each."""
    EAGER = "eager"
    """All of them when logging starts (eager_page_split, the default of KVM's TDP MMU since 5.18);
    with a log that is full at first, as it is cleared."""
