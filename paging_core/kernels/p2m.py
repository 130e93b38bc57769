"""The P2M itself: what hardware translates a guest's frames by under HAP, and its re-arming.

The P2M maps gfn to itself, so its entries are kept as flags alone, one byte each, all
levels in one array: level 1 (4 KiB) at 0, then level 2 (2 MiB), 3 (1 GiB), 4 (512 GiB).
An entry of level 2 or 3 is a superpage unless TABLE is set. RECALC is Xen's marker for an
entry whose subtree must be re-armed when it is next used: the access takes a
misconfiguration exit, which pushes the mark down one path and re-arms the whole table at
its end.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.arrays import dirty, p2m
from paging_core.kernels.state import ENTRIES, Core
from paging_core.kernels.tlb import flush_tlb

P2M_WRITE = 1
P2M_DIRTY = 2
P2M_TABLE = 4
P2M_RECALC = 8

_REARM = int(Event.P2M_REARM_ENTRY)
_SPLIT = int(Event.P2M_SPLIT)
_P2M = int(Cause.P2M)
_TLB = int(Cause.TLB)


@kernel
def level_entries(n_frames: int, level: int) -> int:
    """Entries of one P2M level for a guest of `n_frames`."""
    shift = 9 * (level - 1)
    return (n_frames + (1 << shift) - 1) >> shift


@kernel
def entry_at(m: Core, gfn: int, level: int) -> int:
    """Index into `p2m` of the entry of `level` that covers a gfn."""
    return m.hap.p2m_start[level] + (gfn >> (9 * (level - 1)))


@kernel
def leaf_at(m: Core, gfn: int) -> int:
    """Index into `p2m` of the entry, of whatever size, that maps a gfn."""
    if p2m(m)[entry_at(m, gfn, 2)] & P2M_TABLE and p2m(m)[entry_at(m, gfn, 3)] & P2M_TABLE:
        return gfn
    return entry_at(m, gfn, leaf_level(m, gfn))


@kernel
def leaf_level(m: Core, gfn: int) -> int:
    """1, 2 or 3: the size of the mapping of a gfn."""
    if p2m(m)[entry_at(m, gfn, 3)] & P2M_TABLE == 0:
        return 3
    if p2m(m)[entry_at(m, gfn, 2)] & P2M_TABLE == 0:
        return 2
    return 1


@kernel
def _armed(m: Core, level: int) -> int:
    """Flags of a freshly (re-)armed leaf: read-only under log-dirty, unless PML logs it."""
    if m.log.enabled == 0 or (m.hap.pml == 1 and level == 1):
        return P2M_WRITE
    return 0


@kernel
def _children(m: Core, gfn: int, level: int) -> tuple[int, int]:
    """Where the up to 512 entries below the level's entry start and how many there are."""
    first = (gfn >> (9 * (level - 1))) << 9
    count = min(ENTRIES, level_entries(m.n_frames, level - 1) - first)
    return entry_at(m, first << (9 * (level - 2)), level - 1), count


@kernel
def _push_recalc(m: Core, gfn: int, level: int) -> None:
    start, count = _children(m, gfn, level)
    for i in range(start, start + count):
        p2m(m)[i] |= P2M_RECALC


@kernel
def _rearm_table(m: Core, gfn: int) -> None:
    start, count = _children(m, gfn, 2)
    flags = _armed(m, 1)
    for i in range(start, start + count):
        p2m(m)[i] = flags
    pay(m, _REARM, _P2M, count)


@kernel
def resolve_misconfig(m: Core, gfn: int) -> bool:
    """Re-arm what a clean left marked on the path of a gfn; True if anything was."""
    resolved = False
    for level in (4, 3, 2):
        at = entry_at(m, gfn, level)
        entry = p2m(m)[at]
        if entry & P2M_RECALC == 0:
            if level < 4 and entry & P2M_TABLE == 0:
                return resolved
            continue
        resolved = True
        if level < 4 and entry & P2M_TABLE == 0:
            p2m(m)[at] = _armed(m, level)
            return True
        p2m(m)[at] = entry & ~P2M_RECALC
        if level > 2:
            _push_recalc(m, gfn, level)
        else:
            _rearm_table(m, gfn)
    return resolved


@kernel
def split(m: Core, gfn: int, level: int) -> None:
    """Replace a superpage by a table of the next smaller size, armed like it."""
    at = entry_at(m, gfn, level)
    start, count = _children(m, gfn, level)
    inherited = p2m(m)[at] & P2M_WRITE
    flags = _armed(m, level - 1) | inherited
    for i in range(start, start + count):
        p2m(m)[i] = flags
    p2m(m)[at] = P2M_TABLE
    pay(m, _SPLIT, _P2M, 1)


@kernel
def split_to_frames(m: Core, gfn: int) -> None:
    """Replace whatever superpage maps a frame by tables of frames."""
    for level in range(leaf_level(m, gfn), 1, -1):
        split(m, gfn, level)


@kernel
def split_everything(m: Core) -> None:
    """KVM's eager page splitting (kvm_mmu_slot_try_split_huge_pages), when logging starts."""
    for gfn in range(0, m.n_frames, ENTRIES):
        split_to_frames(m, gfn)


@kernel
def open_leaf(m: Core, gfn: int) -> None:
    """Restore write access to the entry, of whatever size, that maps a gfn."""
    p2m(m)[leaf_at(m, gfn)] |= P2M_WRITE


@kernel
def build_p2m(m: Core) -> None:
    """Map the guest with the largest pages that fit whole: 1 GiB, else 2 MiB, else 4 KiB."""
    n_frames = m.n_frames
    start = 0
    for level in range(1, 5):
        m.hap.p2m_start[level] = start
        start += level_entries(n_frames, level)
    for i in range(m.hap.p2m_entries):
        p2m(m)[i] = P2M_WRITE
    for gfn in range(0, n_frames, 1 << 27):
        p2m(m)[entry_at(m, gfn, 4)] = P2M_TABLE
    for gfn in range(0, n_frames, 1 << 18):
        if gfn + (1 << 18) > n_frames:
            p2m(m)[entry_at(m, gfn, 3)] = P2M_TABLE
    for gfn in range(0, n_frames, ENTRIES):
        if gfn + ENTRIES > n_frames:
            p2m(m)[entry_at(m, gfn, 2)] = P2M_TABLE


@kernel
def mark_root(m: Core) -> None:
    """Lazy re-arm: mark the root entries; everything below follows when it is touched."""
    n_frames = m.n_frames
    count = level_entries(n_frames, 4)
    start = entry_at(m, 0, 4)
    for i in range(start, start + count):
        p2m(m)[i] |= P2M_RECALC
    pay(m, _REARM, _P2M, count)
    flush_tlb(m, _TLB)


@kernel
def rearm_leaf(m: Core, gfn: int) -> None:
    """Re-arm the one entry that maps a gfn, of whatever size; the TLB is the caller's."""
    p2m(m)[leaf_at(m, gfn)] = _armed(m, leaf_level(m, gfn))
    pay(m, _REARM, _P2M, 1)


@kernel
def rearm_dirty(m: Core) -> None:
    """KVM: re-arm the entries of the dirty frames, and no others."""
    for word in range(m.log.dirty_words):
        bits = dirty(m)[word]
        if bits == 0:
            continue
        for bit in range(64):
            if (bits >> bit) & 1:
                rearm_leaf(m, word * 64 + bit)
    flush_tlb(m, _TLB)


@kernel
def rearm_all(m: Core) -> None:
    """Eager re-arm (2009): rewrite every leaf, with the guest paused."""
    n_frames = m.n_frames
    gfn = 0
    leaves = 0
    while gfn < n_frames:
        level = leaf_level(m, gfn)
        p2m(m)[entry_at(m, gfn, level)] = _armed(m, level)
        leaves += 1
        gfn += 1 << (9 * (level - 1))
    pay(m, _REARM, _P2M, leaves)
    flush_tlb(m, _TLB)
