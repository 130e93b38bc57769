"""Hardware-assisted paging: the P2M, its log-dirty modes, and page-modification logging.

The P2M maps gfn to itself, so its entries are kept as flags alone, one byte each, all
levels in one array: level 1 (4 KiB) at 0, then level 2 (2 MiB), 3 (1 GiB), 4 (512 GiB).
An entry of level 2 or 3 is a superpage unless TABLE is set. RECALC is Xen's marker for an
entry whose subtree must be re-armed when it is next used: the access takes a
misconfiguration exit, which pushes the mark down one path and re-arms the whole table at
its end.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event, Fault
from paging_core.kernels.account import count_fault, count_fixup, pay
from paging_core.kernels.arrays import frame_at, memory, p2m, pml
from paging_core.kernels.bitmap import BY_FIXUP, BY_LOG, WITH_GROUP, mark_dirty, set_dirty
from paging_core.kernels.density import PHYSICAL
from paging_core.kernels.groups import group_size, triggers_physical
from paging_core.kernels.guest_walk import Walk, guest_walk, missing_bits, slot_of
from paging_core.kernels.shadow_fault import GUEST_FAULT
from paging_core.kernels.state import DIRTY, PML_ENTRIES, Core
from paging_core.kernels.tlb import fill_tlb, flush_tlb

P2M_WRITE = 1
P2M_DIRTY = 2
P2M_TABLE = 4
P2M_RECALC = 8

_EXIT = int(Event.EXIT)
_VIOLATION = int(Event.P2M_VIOLATION)
_MISCONFIG = int(Event.P2M_MISCONFIG)
_REARM = int(Event.P2M_REARM_ENTRY)
_SPLIT = int(Event.P2M_SPLIT)
_OPEN = int(Event.GROUP_OPEN)
_PML_FULL = int(Event.PML_FULL)
_PML_ENTRY = int(Event.PML_ENTRY)
_FIXUP = int(Cause.FIXUP)
_P2M = int(Cause.P2M)
_PML = int(Cause.PML)
_GROUP = int(Cause.GROUP)
_TLB = int(Cause.TLB)
_F_VIOLATION = int(Fault.P2M_VIOLATION)
_F_MISCONFIG = int(Fault.MISCONFIGURATION)
_F_PML_FULL = int(Fault.PML_FULL)


@kernel
def level_entries(n_frames: int, level: int) -> int:
    """Entries of one P2M level for a guest of `n_frames`."""
    shift = 9 * (level - 1)
    return (n_frames + (1 << shift) - 1) >> shift


@kernel
def entry_at(m: Core, gfn: int, level: int) -> int:
    """Index into `p2m` of the entry of `level` that covers a gfn."""
    return m.p2m_start[level] + (gfn >> (9 * (level - 1)))


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
    if m.log_dirty == 0 or (m.pml == 1 and level == 1):
        return P2M_WRITE
    return 0


@kernel
def _children(m: Core, gfn: int, level: int) -> tuple[int, int]:
    """Where the up to 512 entries below the level's entry start and how many there are."""
    first = (gfn >> (9 * (level - 1))) << 9
    count = min(512, level_entries(m.n_frames, level - 1) - first)
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
def _touch(m: Core, gfn: int) -> None:
    """Any access: take the misconfiguration exit if a clean left a mark on the path."""
    flags = p2m(m)
    starts = m.p2m_start
    path = flags[starts[4] + (gfn >> 27)] | flags[starts[3] + (gfn >> 18)]
    path |= flags[starts[2] + (gfn >> 9)]
    if path & P2M_RECALC and resolve_misconfig(m, gfn):
        pay(m, _EXIT, _P2M, 1)
        pay(m, _MISCONFIG, _P2M, 1)
        count_fault(m, _F_MISCONFIG, gfn)


@kernel
def _split(m: Core, gfn: int, level: int) -> None:
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
def _open_leaf(m: Core, gfn: int) -> None:
    p2m(m)[leaf_at(m, gfn)] |= P2M_WRITE


@kernel
def _open_group(m: Core, gfn: int) -> None:
    n = group_size(m, PHYSICAL, gfn, m.n_frames, gfn)
    if n == 1 or not triggers_physical(m, gfn, n):
        return
    first = gfn & ~(n - 1)
    opened = 0
    for neighbour in range(first, min(first + n, m.n_frames)):
        if neighbour == first or neighbour & 511 == 0:
            resolve_misconfig(m, neighbour)
        if neighbour != gfn and set_dirty(m, neighbour, WITH_GROUP):
            _open_leaf(m, neighbour)
            opened += 1
    pay(m, _OPEN, _GROUP, opened)


@kernel
def _violation(m: Core, gfn: int) -> None:
    """A write met a read-only entry: split down to the group's size, mark, restore write."""
    pay(m, _EXIT, _FIXUP, 1)
    pay(m, _VIOLATION, _FIXUP, 1)
    count_fault(m, _F_VIOLATION, gfn)
    # Only a group that opens for certain may keep a superpage whole.
    certain = m.adaptive == 0 and m.group_trigger == 1
    smallest = 2 if m.group_frames >= 512 and certain else 1
    level = leaf_level(m, gfn)
    while level > smallest:
        _split(m, gfn, level)
        level -= 1
    if m.pml == 1:
        return
    _open_leaf(m, gfn)
    if mark_dirty(m, gfn, BY_FIXUP):
        count_fixup(m)
    # A writable superpage lets every frame of it be written unseen: all are marked.
    if m.group_frames > 1:
        _open_group(m, gfn)


@kernel
def drain_pml(m: Core) -> None:
    """Mark every frame that the hardware logged, and empty the log."""
    pay(m, _PML_ENTRY, _PML, m.pml_used)
    for i in range(m.pml_used):
        set_dirty(m, pml(m)[i], BY_LOG)
    m.pml_used = 0


@kernel
def _log_modification(m: Core, gfn: int) -> None:
    pml(m)[m.pml_used] = gfn
    m.pml_used += 1
    if m.pml_used == PML_ENTRIES:
        pay(m, _EXIT, _PML, 1)
        pay(m, _PML_FULL, _PML, 1)
        count_fault(m, _F_PML_FULL, gfn)
        drain_pml(m)


@kernel
def p2m_access(m: Core, gfn: int, write: int) -> bool:
    """One access through the P2M; returns whether it is writable with its D bit set."""
    _touch(m, gfn)
    at = leaf_at(m, gfn)
    if write != 0:
        if p2m(m)[at] & P2M_WRITE == 0:
            _violation(m, gfn)
            at = leaf_at(m, gfn)
        if p2m(m)[at] & P2M_DIRTY == 0:
            p2m(m)[at] |= P2M_DIRTY
            if m.pml == 1 and m.log_dirty == 1:
                _log_modification(m, gfn)
    return p2m(m)[at] & (P2M_WRITE | P2M_DIRTY) == P2M_WRITE | P2M_DIRTY


@kernel
def _touch_table(m: Core, table: int, slot: int, leaf: bool, write: int) -> None:
    """The walker reads one guest entry and sets its A and D bits: a write through the P2M."""
    entry = memory(m)[table * 512 + slot]
    missing = missing_bits(entry, leaf, write)
    if missing == 0:
        _touch(m, table)
    else:
        p2m_access(m, table, 1)
        memory(m)[table * 512 + slot] = entry | missing
        frame_at(m, table).written = 1


@kernel
def _walk_tables(m: Core, va: int, walk: Walk, write: int) -> None:
    _, _, t3, t2, t1, _ = walk
    _touch_table(m, m.vcpu.cr3, slot_of(va, 4), False, write)
    _touch_table(m, t3, slot_of(va, 3), False, write)
    _touch_table(m, t2, slot_of(va, 2), t1 < 0, write)
    if t1 >= 0:
        _touch_table(m, t1, slot_of(va, 1), True, write)


@kernel
def hap_translate(m: Core, va: int, write: int) -> int:
    """The two-dimensional walk after a TLB miss; returns the gfn or GUEST_FAULT."""
    walk = guest_walk(m, va)
    gfn = walk[0]
    if gfn < 0 or (write != 0 and walk[1] == 0):
        return GUEST_FAULT
    _walk_tables(m, va, walk, write)
    ready = p2m_access(m, gfn, write)
    guest_ready = walk[1] != 0 and (write != 0 or walk[5] & DIRTY != 0)
    fill_tlb(m, va >> 12, gfn, 1 if ready and guest_ready else 0, 1 if guest_ready else 0)
    return gfn


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


@kernel
def build_p2m(m: Core) -> None:
    """Map the guest with the largest pages that fit whole: 1 GiB, else 2 MiB, else 4 KiB."""
    n_frames = m.n_frames
    start = 0
    for level in range(1, 5):
        m.p2m_start[level] = start
        start += level_entries(n_frames, level)
    for i in range(m.p2m_entries):
        p2m(m)[i] = P2M_WRITE
    for gfn in range(0, n_frames, 1 << 27):
        p2m(m)[entry_at(m, gfn, 4)] = P2M_TABLE
    for gfn in range(0, n_frames, 1 << 18):
        if gfn + (1 << 18) > n_frames:
            p2m(m)[entry_at(m, gfn, 3)] = P2M_TABLE
    for gfn in range(0, n_frames, 512):
        if gfn + 512 > n_frames:
            p2m(m)[entry_at(m, gfn, 2)] = P2M_TABLE
