"""What every event costs, as far as anybody knows: an interval and where it comes from.

Most of what a hypervisor does on a fault has no published price. `low` and `high` are the least
and the most that the named sources, or two hypervisors that do the work differently, give;
`typical` is what the model charges. Where the source is an estimate it says so.

"Xen" is xen-project/xen at c447b7308b (August 2026), "here" a measurement on a virtual machine of
two processors without hardware paging (KVM's own shadow MMU, userfaultfd); docs/costs.md has the
derivations.
"""

from __future__ import annotations

from collections.abc import Mapping

from paging_core.events import Event, EventCost

_ESTIMATE = "estimate; no published figure"

DEFAULTS: Mapping[Event, EventCost] = {
    Event.ACCESS: EventCost(0.5, 1, 2, "L1-resident load or store at 3 to 4 GHz"),
    Event.GUEST_FAULT: EventCost(
        400, 700, 1500, f"a minor fault of a Linux guest, without exits; {_ESTIMATE}"
    ),
    Event.GUEST_PAGE_CLEAR: EventCost(50, 100, 400, "4 KiB at 80, 40, 10 GB/s"),
    Event.GUEST_PAGE_COPY: EventCost(100, 200, 800, "4 KiB at 40, 20, 5 GB/s (one core)"),
    Event.TLB_MISS_1D: EventCost(20, 30, 40, "four dependent loads, mostly cached; estimate"),
    Event.TLB_MISS_2D: EventCost(
        40, 80, 120, "up to 24 loads of a two-dimensional walk; estimate"
    ),
    Event.TLB_FLUSH: EventCost(2000, 5000, 10000, "for all vCPUs of a guest, by IPI; estimate"),
    Event.EXIT: EventCost(
        450, 840, 2000,
        "1344 cycles are VMRUN to exit, 2528 a whole KVM_RUN ioctl (LKML, SEV-ES, 2020-12), at "
        "3 GHz; high: with mitigations, estimate. In 2009 2 to 4 µs (xen-2009)",
    ),
    Event.FIXUP: EventCost(
        300, 500, 2000,
        f"walk, lock, entry update, beside the exit; {_ESTIMATE}. High: 2.4 to 3.1 µs whole on "
        "KVM's shadow MMU, nested (measured here)",
    ),
    Event.SHADOW_L1E_BUILD: EventCost(
        600, 1000, 2400,
        f"walk, verify, propagate one L1 entry; {_ESTIMATE}. High: 2.7 to 3.2 µs whole on KVM's "
        "shadow MMU, nested (measured here)",
    ),
    Event.SHADOW_PREFETCH: EventCost(5, 10, 100, f"one prefetched L1 entry; {_ESTIMATE}"),
    Event.SHADOW_PAGE_BUILD: EventCost(
        1000, 2000, 3000, f"clear, promote, hash, hook; {_ESTIMATE}"
    ),
    Event.SHADOW_TEARDOWN_PAGE: EventCost(1000, 1500, 2000, f"unhash, demote, free; {_ESTIMATE}"),
    Event.SHADOW_TEARDOWN_ENTRY: EventCost(
        5, 10, 70,
        f"put one present entry; {_ESTIMATE}. High: KVM's zap, 50 to 70 ns each "
        "(measured here)",
    ),
    Event.EMULATED_WRITE: EventCost(
        1000, 2000, 5000, f"x86_emulate and validate, beside the exit; {_ESTIMATE}"
    ),
    Event.WRITE_PROTECT_FRAME: EventCost(
        20, 30, 100,
        "KVM clear-log of 2 GiB in 15.8 ms (Matlack 2022): 30 ns a frame; get-and-protect 24 to 31 "
        "ns, PAGEMAP_SCAN 50 to 100 (measured here)",
    ),
    Event.OUT_OF_SYNC: EventCost(200, 300, 600, f"4 KiB snapshot and bookkeeping; {_ESTIMATE}"),
    Event.RESYNC: EventCost(300, 500, 1000, f"compare 512 entries with the snapshot; {_ESTIMATE}"),
    Event.MARK_DIRTY: EventCost(
        5, 30, 100,
        "low: KVM's set_bit; Xen's set_pfn_logdirty takes the paging lock and maps four levels of "
        "a trie; estimate",
    ),
    Event.GROUP_OPEN: EventCost(
        5, 10, 100,
        "one neighbour's entry, beside its mark; low: entries share a cache line, estimate. High: "
        "with the mark 90 to 200 ns under userfaultfd (measured here)",
    ),
    Event.D_BIT_SCAN: EventCost(
        5, 10, 50, "one opened entry read at clean time; as Xen's VRAM tracker does; estimate"
    ),
    Event.BITMAP_COPY: EventCost(
        200, 500, 2000, "one 4 KiB leaf for 32768 frames: copy, clear, trie walk; estimate"
    ),
    Event.P2M_VIOLATION: EventCost(
        100, 500, 1500,
        "beside exit, mark and sync. Low: at most 224 to 320 ns whole for a first write on KVM EPT "
        "(Matlack 2022), with PML even less of it a violation; Xen re-reads and walks more, "
        "estimate",
    ),
    Event.P2M_SYNC: EventCost(
        100, 300, 5000,
        "Xen's ept_set_entry ends in ept_sync_domain where the old entry was present: IPI to every "
        "processor that runs the guest, waited for, and INVEPT at the next entry. Low, typical: "
        "one processor, INVEPT alone; high: others; estimate",
    ),
    Event.P2M_MISCONFIG: EventCost(200, 300, 1000, f"beside the exit; {_ESTIMATE}"),
    Event.P2M_REARM_ENTRY: EventCost(
        1, 20, 60,
        "low: a store in a loop; Xen's resolve_misconfig calls epte_get_entry_emt and "
        "p2m_recalc_type and writes atomically for each; estimate",
    ),
    Event.P2M_SPLIT: EventCost(
        2000, 3000, 5000,
        "allocate a table, write 512 entries; estimate. KVM eager splitting 31.5 µs per 2 MiB with "
        "96 vCPUs (Matlack 2022)",
    ),
    Event.PML_FULL: EventCost(300, 500, 1000, f"handler and lock, beside the exit; {_ESTIMATE}"),
    Event.PML_ENTRY: EventCost(
        5, 250, 500,
        "low: KVM's set_bit, no walk; Xen's ept_vcpu_flush_pml_buffer: two EPT walks "
        "(p2m_change_type_one) and a mark under the paging lock for each; estimate",
    ),
    Event.PAGE_DIGEST: EventCost(
        200, 400, 800,
        "4 KiB read and digested by the sender at 20, 10, 5 GB/s (one core), to find a page that "
        "did not change since it was last sent",
    ),
    Event.CR3_LOAD: EventCost(
        300, 800, 2000,
        "beside the exit, of a root that has a shadow: Xen's sh_update_cr3 (lock, look up, pin, "
        f"write the monitor table), KVM's kvm_set_cr3 (cached roots, requests); {_ESTIMATE}",
    ),
    Event.INVLPG: EventCost(
        100, 200, 800,
        "beside the exit: Xen's sh_invlpg reads three shadow entries and invalidates, KVM's "
        f"kvm_mmu_invlpg walks the current and three previous roots; {_ESTIMATE}",
    ),
    Event.GUEST_FILE_CALL: EventCost(
        200, 500, 1500,
        f"read() or write() of a part of a page that is cached, without exits; {_ESTIMATE}",
    ),
    Event.UFFD_FAULT: EventCost(
        7000, 10000, 75000,
        "a thread sleeps in the host until another has opened the page. Low, typical: 7.4 to 13 µs "
        "of a process, idle; high: 60 to 75 µs of a KVM guest, nested, two processors (measured "
        "here)",
    ),
    Event.UFFD_OPEN: EventCost(
        90, 150, 200,
        "one neighbour un-protected and marked: 90 to 200 ns under userfaultfd, and what "
        "MADV_POPULATE_WRITE takes is within that (measured here)",
    ),
    Event.UFFD_PROTECT: EventCost(
        50, 100, 190, "PAGEMAP_SCAN with re-protect, per dirty page (measured here)"
    ),
    Event.HOST_FAULT: EventCost(
        500, 1100, 1500,
        "the host's own minor fault on an opened page of shared memory. Typical: 3.7 µs a page "
        "with it, 2.4 to 2.6 without, on KVM's shadow MMU (measured here); ends: estimate",
    ),
    Event.SLOT_LOOKUP: EventCost(
        4, 18, 30,
        "one frame of a deleted slot looked up in the reverse map and the hash. 1.44 ms for 32,768 "
        "frames where zapping all took 0.85: 18 ns; low: 0.13 ms with nothing to zap (measured "
        "here); high: estimate",
    ),
    Event.P2M_FAST_FAULT: EventCost(
        50, 150, 300,
        "beside exit and mark: a walk and a cmpxchg without the lock; at most 224 to 320 ns whole "
        "for a first write on KVM EPT (Matlack 2022); estimate",
    ),
}  # fmt: skip
"""Default price of every event."""
