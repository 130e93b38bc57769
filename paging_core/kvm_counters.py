"""What KVM counts of its page faults and shadow pages, read off a model guest.

The names and meanings are those of KVM_GET_STATS_FD (arch/x86/kvm/x86.c, `kvm_vcpu_stats_desc` and
`kvm_vm_stats_desc`), so that a real guest's counters can be held against them field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from paging_core.model_guest import ModelGuest

_FIELDS = {
    "pf_taken": "taken", "pf_fixed": "fixed", "pf_fast": "fast", "pf_spurious": "spurious",
    "pf_emulate": "emulated", "pf_guest": "to_guest", "mmu_cache_miss": "cache_miss",
    "mmu_shadow_zapped": "zapped", "mmu_recycled": "recycled", "mmu_pte_write": "emulated",
    "mmu_pde_zapped": "pde_zapped", "mmu_flooded": "flooded", "mmu_unsync": "unsync",
}  # fmt: skip
"""Field of the core's `kvm` by the counter's name."""


@dataclass(frozen=True, kw_only=True)
class KvmCounters:
    """Counts since the guest was made; `mmu_unsync` is how many there are now.

    Entries that a fault filled beside its own count nowhere. A root in use counts twice as zapped:
    when it is, and when the vCPU lets go of it.

    Attributes:
        pf_taken: page faults that reached the MMU, those that changed nothing and ran again too.
        pf_fixed: that made or changed an entry.
        pf_fast: of these, without the lock (fast_page_fault): HAP alone.
        pf_spurious: that found it right already, and at most put a link back.
        pf_emulate: stores to tables that were emulated. (KVM counts those to devices here as well;
            a model guest has none.)
        pf_guest: that were the guest's own.
        mmu_cache_miss: shadow pages made; one that the hash finds is not.
        mmu_shadow_zapped: shadow pages zapped.
        mmu_recycled: of these, for room.
        mmu_pte_write: emulated stores to tables.
        mmu_pde_zapped: entries of level 2 and above that such a store with a value took.
        mmu_flooded: shadow pages zapped because too many stores went to their table.
        mmu_unsync: shadow pages out of sync.
        ring_entries: of the dirty ring, that were filled. (KVM has no counter of it.)
        ring_full: exits because it was full. (Nor of this.)
    """

    pf_taken: int
    pf_fixed: int
    pf_fast: int
    pf_spurious: int
    pf_emulate: int
    pf_guest: int
    mmu_cache_miss: int
    mmu_shadow_zapped: int
    mmu_recycled: int
    mmu_pte_write: int
    mmu_pde_zapped: int
    mmu_flooded: int
    mmu_unsync: int
    ring_entries: int
    ring_full: int

    def __sub__(self, earlier: KvmCounters) -> KvmCounters:
        """What was counted since then; `mmu_unsync` as it is now."""
        names = [one.name for one in fields(self)]
        since = {name: getattr(self, name) - getattr(earlier, name) for name in names}
        return KvmCounters(**{**since, "mmu_unsync": self.mmu_unsync})


def kvm_counters(guest: ModelGuest) -> KvmCounters:
    """The counters of a guest under ``--hypervisor kvm``; all of them 0 under Xen's paging."""
    kvm, ring = guest.machine.core["kvm"][0], guest.machine.core["ring"][0]
    counted = {name: int(kvm[field]) for name, field in _FIELDS.items()}
    return KvmCounters(**counted, ring_entries=int(ring["pushed"]), ring_full=int(ring["full"]))
