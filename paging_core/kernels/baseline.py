"""The untracked twin: what the shadows would hold if nothing were logged.

Per guest L1 table (and per superpage) a row says which entries an untracked shadow would hold and
which of them writable; `frames.seen` says of which guest frames it would have shadows. Faults are
charged by it (shadow_fault.py): one that the twin takes too is base time.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import baseline, frame_at, links, page_at, regions
from paging_core.kernels.shadow_entries import revoke_writes
from paging_core.kernels.state import (
    BASELINE_WORDS,
    FL1,
    L1,
    L2,
    L3,
    L4,
    N_OOS,
    SLOT_MASK,
    Core,
)

_TABLE = 1 << L1 | 1 << L2 | 1 << L3 | 1 << L4
"""Bits of `frames.seen`: a page table. An FL1 belongs to a superpage, whose frames are data."""
_WRITABLE_WORDS = BASELINE_WORDS // 2


@kernel
def _region_of(m: Core, page: int) -> int:
    """Index into `regions`: user and kernel mappings of the same 2 MiB are kept apart."""
    p = page_at(m, page)
    kernel_mapping = 1 if p.key >> 9 < m.vcpu.first_frame else 0
    return (p.gfn >> 9) * 2 + kernel_mapping


@kernel
def baseline_row(m: Core, page: int) -> int:
    """Row of `baseline` for an L1 or FL1 shadow page, or -1 if nothing is known of it."""
    p = page_at(m, page)
    if p.kind == L1:
        return int(frame_at(m, p.gfn).baseline)
    return regions(m)[_region_of(m, page)]


@kernel
def _set_baseline_row(m: Core, page: int, row: int) -> None:
    p = page_at(m, page)
    if p.kind == L1:
        frame_at(m, p.gfn).baseline = row
    else:
        regions(m)[_region_of(m, page)] = row


@kernel
def new_baseline_row(m: Core, page: int) -> int:
    """The row of a page, made if there is none; -1 if no row is left."""
    row = baseline_row(m, page)
    if row >= 0 or m.shadow.free_baseline < 0:
        return row
    row = m.shadow.free_baseline
    m.shadow.free_baseline = baseline(m)[row * BASELINE_WORDS]
    for i in range(BASELINE_WORDS):
        baseline(m)[row * BASELINE_WORDS + i] = 0
    _set_baseline_row(m, page, row)
    return row


@kernel
def _free_row(m: Core, row: int) -> None:
    baseline(m)[row * BASELINE_WORDS] = m.shadow.free_baseline
    m.shadow.free_baseline = row


@kernel
def _leave_out_of_sync(m: Core, gfn: int) -> None:
    for i in range(N_OOS):
        if m.shadow.twin_oos_gfn[i] == gfn:
            m.shadow.twin_oos_gfn[i] = -1


@kernel
def forget_page(m: Core, page: int) -> None:
    """The twin's shadow goes with this one, so building it again is nobody's fault."""
    p = page_at(m, page)
    frame_at(m, p.gfn).seen &= ~(1 << p.kind)
    if p.kind > FL1:
        return
    if p.kind == L1:
        _leave_out_of_sync(m, p.gfn)
    row = baseline_row(m, page)
    if row >= 0:
        _free_row(m, row)
        _set_baseline_row(m, page, -1)


@kernel
def is_table_untracked(m: Core, gfn: int) -> bool:
    """Whether the twin shadows the frame as a page table, and so lets nobody write it."""
    return frame_at(m, gfn).seen & _TABLE != 0


@kernel
def emulates_untracked(m: Core, gfn: int) -> bool:
    """Whether the twin emulates a store here: to a table that it cannot let go out of sync."""
    tables = frame_at(m, gfn).seen & _TABLE
    return tables != 0 and (m.shadow.out_of_sync == 0 or tables != 1 << L1)


@kernel
def forget_table(m: Core, gfn: int) -> None:
    """The frame is no table any more, and after a clean no shadow of it is left to tell."""
    frame = frame_at(m, gfn)
    frame.seen &= ~_TABLE
    _leave_out_of_sync(m, gfn)
    if frame.baseline >= 0:
        _free_row(m, frame.baseline)
        frame.baseline = -1


@kernel
def forget_entry(m: Core, row: int, slot: int) -> None:
    """The guest changed an entry: the twin drops what it built from it."""
    if row >= 0:
        keep = ~(1 << (slot & 63))
        baseline(m)[row * BASELINE_WORDS + (slot >> 6)] &= keep
        baseline(m)[row * BASELINE_WORDS + (_WRITABLE_WORDS + (slot >> 6))] &= keep


@kernel
def forget_write(m: Core, row: int, slot: int) -> None:
    """The twin loses write access through an entry."""
    if row >= 0:
        at = row * BASELINE_WORDS + (_WRITABLE_WORDS + (slot >> 6))
        baseline(m)[at] &= ~(1 << (slot & 63))


@kernel
def revoke_table_writes(m: Core, gfn: int) -> int:
    """Take write access to a page table away, from the twin as well.

    Returns:
        How many entries were writable here.
    """
    entry_id = int(frame_at(m, gfn).rmap)
    while entry_id >= 0:
        forget_write(m, baseline_row(m, entry_id >> 9), entry_id & SLOT_MASK)
        entry_id = int(links(m)[entry_id * 2])
    return revoke_writes(m, gfn)


@kernel
def _direct_map_row(m: Core, gfn: int) -> int:
    """Row of the shadow through which the guest's kernel writes a frame."""
    odd_tail = m.n_frames & SLOT_MASK
    if odd_tail and gfn >= m.n_frames - odd_tail:
        return int(frame_at(m, m.vcpu.first_frame - 2).baseline)
    return int(regions(m)[(gfn >> 9) * 2 + 1])


@kernel
def _lose_table_writes(m: Core, gfn: int) -> None:
    """The twin alone takes write access to a table away: after a clean no entry may be left."""
    forget_write(m, _direct_map_row(m, gfn), gfn & SLOT_MASK)
    entry_id = int(frame_at(m, gfn).rmap)
    while entry_id >= 0:
        forget_write(m, baseline_row(m, entry_id >> 9), entry_id & SLOT_MASK)
        entry_id = int(links(m)[entry_id * 2])


@kernel
def twin_resyncs(m: Core) -> None:
    """The guest did what brings every table of the twin back in sync."""
    for i in range(N_OOS):
        gfn = int(m.shadow.twin_oos_gfn[i])
        if gfn >= 0:
            m.shadow.twin_oos_gfn[i] = -1
            _lose_table_writes(m, gfn)


@kernel
def twin_unsyncs(m: Core, gfn: int) -> None:
    """A fault that the twin takes as well: if it is on a table, that goes out of sync there."""
    if m.shadow.out_of_sync == 0 or frame_at(m, gfn).seen & _TABLE != 1 << L1:
        return
    for i in range(N_OOS):
        if m.shadow.twin_oos_gfn[i] == gfn:
            return
    i = m.shadow.twin_oos_next
    m.shadow.twin_oos_next = (i + 1) % N_OOS
    if m.shadow.twin_oos_gfn[i] >= 0:
        _lose_table_writes(m, int(m.shadow.twin_oos_gfn[i]))
    m.shadow.twin_oos_gfn[i] = gfn
