"""The shadow tables read as plain Python, for tests and debugging. Readable rather than fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paging_core.kernels.state import DIRTY, FL1, FREE, L1, L2, L3, L4, PRESENT, WRITABLE
from paging_core.model_guest import ModelGuest
from paging_core.units import FRAME_SHIFT

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
