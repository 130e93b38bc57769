"""The shadow tables read as plain Python, for tests and debugging. Readable rather than fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from paging_core.kernels.state import DIRTY, FL1, FREE, L1, L2, L3, L4, PRESENT, WRITABLE
from paging_core.model_guest import ModelGuest
from paging_core.units import FRAME_SHIFT

_COUNTERS = (
    "taken", "fixed", "spurious", "emulated", "to_guest", "cache_miss", "zapped", "recycled",
    "flooded", "pde_zapped", "unsync",
)  # fmt: skip
"""Fields of the core's `kvm`, in the order of `KvmCounters`."""
KIND_NAMES = {L1: "l1", FL1: "fl1", L2: "l2", L3: "l3", L4: "l4"}


@dataclass(frozen=True)
class ShadowPage:
    """One shadow page.

    Attributes:
        index: its place in the pool.
        kind: l1, fl1, l2, l3 or l4.
        guest_frame: gfn of the guest table; of an fl1, the first gfn of the superpage.
        references: parent entries, plus one if pinned, plus one if in use.
        pinned: whether it is a root on the pinned list (every L4 shadow is, but one in use that
            a blow or a full pool has unpinned).
        in_use: whether CR3 points to it now.
    """

    index: int
    kind: str
    guest_frame: int
    references: int
    pinned: bool
    in_use: bool


@dataclass(frozen=True)
class ShadowEntry:
    """One present entry: `target` is a gfn in an l1 or fl1, a pool index above."""

    slot: int
    target: int
    writable: bool
    dirty: bool


@dataclass(frozen=True)
class KvmCounters:
    """What KVM's shadow MMU has counted since boot, by the names of KVM_GET_STATS_FD.

    A fault is fixed, spurious (only a link was missing), emulated or given to the guest; entries
    that were filled beside it count nowhere. A root in use counts twice as zapped: when it is, and
    when the vCPU lets go of it.
    """

    pf_taken: int
    pf_fixed: int
    pf_spurious: int
    pf_emulate: int
    pf_guest: int
    mmu_cache_miss: int
    mmu_shadow_zapped: int
    mmu_recycled: int
    mmu_flooded: int
    mmu_pde_zapped: int
    mmu_unsync: int
    """Now, and not since boot."""
    ring_entries: int
    """That were put into the dirty ring."""
    ring_full: int
    """Exits to user space, KVM_EXIT_DIRTY_RING_FULL."""

    def __sub__(self, earlier: KvmCounters) -> KvmCounters:
        """What was counted since then; `mmu_unsync` as it is now."""
        names = [one.name for one in fields(self)]
        since = {name: getattr(self, name) - getattr(earlier, name) for name in names}
        return KvmCounters(**{**since, "mmu_unsync": self.mmu_unsync})


class ShadowView:
    """What the hypervisor's shadows hold right now."""

    def __init__(self, guest: ModelGuest) -> None:
        self._machine = guest.machine

    @property
    def pool_size(self) -> int:
        """Pages in the pool."""
        return len(self._machine.pages)

    @property
    def free_pages(self) -> int:
        """Pages on the free list, counted by walking it."""
        count, page = 0, int(self._machine.core["shadow"]["free_page"][0])
        while page >= 0:
            count, page = count + 1, int(self._machine.pages["hash_next"][page])
        return count

    @property
    def out_of_sync_frames(self) -> set[int]:
        """Guest L1 tables that are out of sync now."""
        return {int(gfn) for gfn in self._machine.core["shadow"]["oos_gfn"][0] if gfn >= 0}

    @property
    def kvm(self) -> KvmCounters:
        """The counters of KVM's shadow MMU; all of them 0 under Xen's."""
        kvm, ring = self._machine.core["kvm"][0], self._machine.core["ring"][0]
        counted = [int(kvm[name]) for name in _COUNTERS]
        return KvmCounters(*[*counted, int(ring["pushed"]), int(ring["full"])])

    def pages(self) -> Iterator[ShadowPage]:
        """Every shadow page in use."""
        root = int(self._machine.core["shadow"]["root"][0])
        for index, page in enumerate(self._machine.pages):
            if page["kind"] != FREE:
                kind = KIND_NAMES[int(page["kind"])]
                yield ShadowPage(
                    index,
                    kind,
                    int(page["gfn"]),
                    int(page["refs"]),
                    bool(page["pinned"]),
                    index == root,
                )

    def entries(self, index: int) -> Iterator[ShadowEntry]:
        """The present entries of a shadow page."""
        for slot, entry in enumerate(self._machine.entries[index].tolist()):
            if entry & PRESENT:
                yield ShadowEntry(
                    slot, entry >> FRAME_SHIFT, bool(entry & WRITABLE), bool(entry & DIRTY)
                )

    def mappings(self, gfn: int) -> list[tuple[int, int]]:
        """The (page, slot) pairs on a frame's reverse map."""
        found, entry_id = [], int(self._machine.frames["rmap"][gfn])
        while entry_id >= 0:
            found.append((entry_id >> 9, entry_id & 511))
            entry_id = int(self._machine.links[entry_id, 0])
        return found
