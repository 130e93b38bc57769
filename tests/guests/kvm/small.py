"""A small virtual machine: 256 pages at FIRST_VA, tables made by hand."""

from __future__ import annotations

import numpy as np

from guests.kvm.program import OWN_FLAGS
from guests.kvm.runner import ONE_BLOCK_LIST_PAGES, Runner
from paging_core.memory import GuestMemory
from paging_core.workloads.ops import OP_DTYPE, Ops

FIRST_VA = 1 << 32
PAGES = 256
ROOT, L3, L2, L1, FIRST_FRAME = 1, 2, 3, 4, 16


def ops_of(*rows: tuple[int, int, int, int]) -> Ops:
    """Operations: kind, address, value, words."""
    made = np.zeros(len(rows), OP_DTYPE)
    for i, (kind, address, value, words) in enumerate(rows):
        made[i] = (address, value, 0, words, kind, 0)
    return made


class SmallMachine:
    """See above; page i of the window is frame FIRST_FRAME + i."""

    def __init__(
        self,
        *,
        list_pages: int = ONE_BLOCK_LIST_PAGES,
        flags: int = OWN_FLAGS,
        ring_entries: int = 0,
    ) -> None:
        self.memory = GuestMemory(FIRST_FRAME + PAGES)
        self.memory.populate()
        words = self.memory.words
        words[ROOT, (FIRST_VA >> 39) & 511] = L3 << 12 | OWN_FLAGS
        words[L3, (FIRST_VA >> 30) & 511] = L2 << 12 | OWN_FLAGS
        words[L2, 0] = L1 << 12 | OWN_FLAGS
        words[L1, :PAGES] = np.arange(FIRST_FRAME, FIRST_FRAME + PAGES) << 12 | flags
        # The last page is for notes.
        self.notes_va = FIRST_VA + (PAGES - 1) * 4096
        self.runner = Runner(
            self.memory,
            [ROOT],
            list_pages=list_pages,
            ring_entries=ring_entries,
            notes_va=self.notes_va,
            n_notes=PAGES,
        )

    def page(self, number: int) -> np.ndarray:
        words: np.ndarray = self.memory.words[FIRST_FRAME + number]
        return words

    def close(self) -> None:
        self.runner.close()
        self.memory.close()
