"""The guest's page tables, read from guest memory one entry at a time.

Nothing here knows the kernels: the bits are those of the x86-64 architecture (Intel SDM
volume 3A, 4-level paging), the memory is a plain array of 512 words per frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

PRESENT, WRITABLE, USER = 1 << 0, 1 << 1, 1 << 2
ACCESSED, DIRTY, SUPERPAGE = 1 << 5, 1 << 6, 1 << 7
USER_TOP = 1 << 47
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Leaf:
    """What the tables say about one 4 KiB page (a superpage is 512 of them)."""

    gfn: int
    writable: bool
    accessed: bool
    dirty: bool
    superpage: bool
    table: int
    slot: int


@dataclass(frozen=True)
class Table:
    """A page table: its frame, its level (4 to 1) and the first address that it maps."""

    gfn: int
    level: int
    first_va: int


class Walker:
    """Reads the address space under one root frame (CR3)."""

    def __init__(self, words: npt.NDArray[np.int64], cr3: int) -> None:
        self.words = words
        self.cr3 = cr3

    def entries(self, table: Table) -> Iterator[tuple[int, int, int]]:
        """Present entries of a table: (slot, entry, first address)."""
        step = 1 << (3 + 9 * table.level)
        for slot in np.flatnonzero(self.words[table.gfn] & PRESENT).tolist():
            yield slot, int(self.words[table.gfn, slot]), table.first_va + slot * step

    def tables(self, *, below_va: int = 1 << 48) -> Iterator[Table]:
        """Every table, parents first, of the part of the address space below an address."""
        pending = [Table(self.cr3, 4, 0)]
        while pending:
            table = pending.pop()
            yield table
            if table.level == 1:
                continue
            for _, entry, va in self.entries(table):
                if va < below_va and not (table.level < 4 and entry & SUPERPAGE):
                    pending.append(Table(frame_of(entry), table.level - 1, va))

    def leaves(self, *, below_va: int = USER_TOP) -> dict[int, Leaf]:
        """Every mapped 4 KiB page by its address."""
        found: dict[int, Leaf] = {}
        for table in self.tables(below_va=below_va):
            for slot, entry, va in self.entries(table):
                if va < below_va and (table.level == 1 or entry & SUPERPAGE):
                    found.update(_pages(table, slot, entry, va))
        return found

    def translate(self, va: int) -> Leaf | None:
        """The page at an address, by the four steps that hardware takes."""
        table, first_va = self.cr3, 0
        for level in (4, 3, 2, 1):
            shift = 3 + 9 * level
            slot = (va >> shift) & 511
            entry = int(self.words[table, slot])
            first_va += slot << shift
            if not entry & PRESENT:
                return None
            if level == 1 or (level < 4 and entry & SUPERPAGE):
                here = Table(table, level, 0)
                return _pages(here, slot, entry, first_va)[va & ~(PAGE_BYTES - 1)]
            table = frame_of(entry)
        raise AssertionError("unreachable")

    def page(self, va: int) -> bytes | None:
        """The 4096 bytes at a page's address, or None where nothing is mapped."""
        leaf = self.translate(va)
        return None if leaf is None else self.words[leaf.gfn].tobytes()


def frame_of(entry: int) -> int:
    """Bits 12 to 51 of an entry."""
    return (entry >> 12) & ((1 << 40) - 1)


def _pages(table: Table, slot: int, entry: int, va: int) -> dict[int, Leaf]:
    count = 512 ** (table.level - 1)
    return {
        va + i * PAGE_BYTES: Leaf(
            gfn=frame_of(entry) + i,
            writable=bool(entry & WRITABLE),
            accessed=bool(entry & ACCESSED),
            dirty=bool(entry & DIRTY),
            superpage=table.level > 1,
            table=table.gfn,
            slot=slot,
        )
        for i in range(count)
    }


def runs(pages: set[int]) -> list[tuple[int, int]]:
    """Maximal runs (first, count) of consecutive page numbers, for readable failures."""
    ordered = sorted(pages)
    starts = [p for i, p in enumerate(ordered) if i == 0 or ordered[i - 1] != p - 1]
    bounds = [*map(ordered.index, starts), len(ordered)]
    return [(ordered[a], b - a) for a, b in pairwise(bounds)]
