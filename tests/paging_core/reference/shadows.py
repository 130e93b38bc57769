"""What must hold of shadow pages at every moment, checked entry by entry.

The shadows come as plain Python from `paging_core.shadow_view`; the guest's own tables are
read by `reference.walker`. Each check returns complaints, so that a failure shows all of
them at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paging_core.shadow_view import ShadowPage, ShadowView
from tests.paging_core.reference.walker import (
    ACCESSED,
    DIRTY,
    PRESENT,
    SUPERPAGE,
    WRITABLE,
    frame_of,
)

CHILDREN = {"l4": {"l3"}, "l3": {"l2"}, "l2": {"l1", "fl1"}, "l1": set(), "fl1": set()}


@dataclass
class ShadowChecker:
    """Checks one view of the shadows against guest memory and the dirty bitmap.

    Attributes:
        view: the shadows.
        words: guest memory, int64 (n_frames, 512).
        dirty: gfns marked dirty, or None when nothing is logged.
    """

    view: ShadowView
    words: npt.NDArray[np.int64]
    dirty: set[int] | None

    def __post_init__(self) -> None:
        self.pages: dict[int, ShadowPage] = {page.index: page for page in self.view.pages()}
        self.out_of_sync = self.view.out_of_sync_frames
        self.tables = {page.guest_frame for page in self.view.pages() if page.kind != "fl1"}

    def complaints(self) -> list[str]:
        """Everything that is wrong; empty when all is well."""
        return [
            *self.pool(),
            *self.identity(),
            *self.references(),
            *self.writable_entries(),
            *self.agreement(),
            *self.reverse_map(),
        ]

    def pool(self) -> list[str]:
        """Free pages and used pages are the pool."""
        free, used, size = self.view.free_pages, len(self.pages), self.view.pool_size
        return [] if free + used == size else [f"{free} free + {used} used != pool of {size}"]

    def identity(self) -> list[str]:
        """There is one shadow per guest table and kind, one fl1 per guest superpage entry."""
        tables = [page for page in self.pages.values() if page.kind != "fl1"]
        keys = Counter((page.guest_frame, page.kind) for page in tables)
        shared = [p for p in self.pages.values() if p.kind == "fl1" and p.references != 1]
        return [f"{n} shadows of {key}" for key, n in keys.items() if n > 1] + [
            f"{page} stands for several guest entries" for page in shared
        ]

    def references(self) -> list[str]:
        """References are parent entries, the pin and the vCPU's; everything is reachable."""
        parents: Counter[int] = Counter()
        wrong = []
        for page in self.pages.values():
            if page.kind in {"l1", "fl1"}:
                continue
            for entry in self.view.entries(page.index):
                parents[entry.target] += 1
                child = self.pages.get(entry.target)
                if child is None or child.kind not in CHILDREN[page.kind]:
                    wrong.append(f"{page} slot {entry.slot} points to {child}")
        for page in self.pages.values():
            expected = parents[page.index] + page.pinned + page.in_use
            if page.references != expected or page.references == 0:
                wrong.append(f"{page} has {page.references} references, found {expected}")
        return wrong

    def writable_entries(self) -> list[str]:
        """A writable entry maps no clean frame under log-dirty, and no shadowed table."""
        wrong = []
        for page, slot, gfn, writable in self._leaves():
            if not writable:
                continue
            if self.dirty is not None and gfn not in self.dirty:
                wrong.append(f"{page} slot {slot} can write clean frame {gfn}")
            if gfn in self.tables and gfn not in self.out_of_sync:
                wrong.append(f"{page} slot {slot} can write table {gfn}")
        return wrong

    def agreement(self) -> list[str]:
        """No shadow maps anything that the guest's own tables do not."""
        wrong = []
        for page in self.pages.values():
            if page.guest_frame in self.out_of_sync and page.kind == "l1":
                continue  # allowed to lag until the next resync
            for entry in self.view.entries(page.index):
                wrong += self._disagreement(page, entry.slot, entry.target, entry.writable)
        return wrong

    def reverse_map(self) -> list[str]:
        """Every entry that maps a frame, and nothing else, is on the frame's list."""
        mapped: dict[int, set[tuple[int, int]]] = {}
        for page, slot, gfn, _ in self._leaves():
            mapped.setdefault(gfn, set()).add((page.index, slot))
        wrong = []
        for gfn in range(len(self.words)):
            listed = self.view.mappings(gfn)
            if len(listed) != len(set(listed)) or set(listed) != mapped.get(gfn, set()):
                wrong.append(f"frame {gfn} lists {listed}, mapped by {mapped.get(gfn)}")
        return wrong

    def blown(self) -> list[str]:
        """After a blow only roots in use are left, and they are empty."""
        wrong = []
        for page in self.pages.values():
            if page.kind != "l4" or not page.in_use:
                wrong.append(f"{page} survived the blow")
            elif list(self.view.entries(page.index)):
                wrong.append(f"{page} is a root in use and not empty")
            elif page.pinned:
                wrong.append(f"{page} is pinned after the blow")
        return wrong

    def _leaves(self) -> list[tuple[ShadowPage, int, int, bool]]:
        return [
            (page, entry.slot, entry.target, entry.writable)
            for page in self.pages.values()
            if page.kind in {"l1", "fl1"}
            for entry in self.view.entries(page.index)
        ]

    def _disagreement(self, page: ShadowPage, slot: int, target: int, writable: bool) -> list[str]:
        where = f"{page} slot {slot}"
        if page.kind == "fl1":
            same = target == page.guest_frame + slot
            return [] if same else [f"{where} maps {target}, not its frame of the superpage"]
        guest = int(self.words[page.guest_frame, slot])
        if page.kind == "l1":
            agrees = target == frame_of(guest) and (not writable or writes(guest))
        else:
            agrees = self._child_agrees(page, self.pages[target], guest)
        if agrees and guest & PRESENT and guest & ACCESSED:
            return []
        flags = " writable" if writable else ""
        return [f"{where} is present{flags} to {target}, the guest's entry is {guest:#x}"]

    def _child_agrees(self, page: ShadowPage, child: ShadowPage, guest: int) -> bool:
        superpage = page.kind == "l2" and bool(guest & SUPERPAGE)
        if (child.kind == "fl1") != superpage or child.guest_frame != frame_of(guest):
            return False
        return not superpage or writes(guest) or not self._any_writable(child)

    def _any_writable(self, page: ShadowPage) -> bool:
        return any(entry.writable for entry in self.view.entries(page.index))


def writes(guest_entry: int) -> bool:
    """Whether a guest leaf lets a store through without a fault of the guest's own."""
    return bool(guest_entry & WRITABLE and guest_entry & DIRTY)
