"""What KVM's shadows would hold without logging: which faults are tracking's.

Without logging a fault fills its aligned block of 8 with writable entries as well (kvm_fault.py);
with it, it does not, so a fault on what an untracked one would have filled is charged to tracking.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause
from paging_core.kernels.account import BASE
from paging_core.kernels.arrays import baseline, entries
from paging_core.kernels.baseline import baseline_row, new_baseline_row
from paging_core.kernels.density import guest_leaf
from paging_core.kernels.state import (
    ACCESSED,
    BASELINE_WORDS,
    DIRTY,
    ENTRIES,
    PRESENT,
    WRITABLE,
    Core,
)

BLOCK = 8
"""Entries that a fault fills together: PTE_PREFETCH_NUM of mmu.c."""

_FIXUP = int(Cause.FIXUP)
_REBUILD = int(Cause.REBUILD)
_MAY_FILL = PRESENT | ACCESSED


@kernel
def _has(m: Core, row: int, slot: int, write: int) -> bool:
    if row < 0:
        return False
    column = (slot >> 6) + (8 if write else 0)
    return (baseline(m)[row * BASELINE_WORDS + column] >> (slot & 63)) & 1 == 1


@kernel
def _set(m: Core, row: int, slot: int, leaf: int) -> None:
    bit = 1 << (slot & 63)
    baseline(m)[row * BASELINE_WORDS + (slot >> 6)] |= bit
    if leaf & (WRITABLE | DIRTY) == WRITABLE | DIRTY:
        baseline(m)[row * BASELINE_WORDS + (8 + (slot >> 6))] |= bit


@kernel
def cause_of(m: Core, page: int, slot: int, write: int) -> int:
    """BASE, or the tracking cause to which a fault on an entry is charged."""
    if m.log.enabled == 0 or not _has(m, baseline_row(m, page), slot, write):
        return BASE
    return _FIXUP if entries(m)[page * ENTRIES + slot] & PRESENT else _REBUILD


@kernel
def note_fault(m: Core, page: int, slot: int) -> None:
    """The untracked guest would have taken this fault as well: note all that it fills."""
    row = new_baseline_row(m, page)
    if row < 0:
        return
    _set(m, row, slot, guest_leaf(m, page, slot))
    if m.shadow.prefetch == 0:
        return
    first = slot & ~(BLOCK - 1)
    for i in range(first, first + BLOCK):
        leaf = guest_leaf(m, page, i)
        if i == slot or _has(m, row, i, 0):
            continue
        if leaf & _MAY_FILL != _MAY_FILL:
            return
        _set(m, row, i, leaf)
