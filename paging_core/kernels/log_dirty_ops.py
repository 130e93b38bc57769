"""Log-dirty as a whole: enable, clean, peek, disable, for every kind of paging."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.bitmap import clear_and_count_false, is_dirty
from paging_core.kernels.hap import (
    P2M_DIRTY,
    drain_pml,
    entry_at,
    leaf_level,
    mark_root,
    rearm_all,
)
from paging_core.kernels.shadow_clean import blow_tables, protect_all, protect_dirty
from paging_core.kernels.shadow_entries import revoke_writes
from paging_core.kernels.state import DIRTY, SHADOW, Machine

FRAMES_PER_LEAF = 32768
"""Frames in one 4 KiB leaf of Xen's log-dirty trie."""

_SCAN = int(Event.D_BIT_SCAN)
_COPY = int(Event.BITMAP_COPY)
_GROUP = int(Cause.GROUP)
_BITMAP = int(Cause.BITMAP)


@kernel
def _shadow_says_clean(m: Machine, gfn: int) -> bool:
    """Whether the D bit proves that nobody wrote an opened frame.

    Trusted with one mapping, and with none (an entry that goes away leaves its D bit's
    word behind). With several, a hypervisor that knows only one of them must assume dirty,
    as Xen's VRAM tracker does.
    """
    entry_id = m.frames[gfn].rmap
    if entry_id < 0:
        return True
    if m.links[entry_id, 0] >= 0:
        return False
    return m.entries[entry_id >> 9, entry_id & 511] & DIRTY == 0


@kernel
def _p2m_says_clean(m: Machine, gfn: int) -> bool:
    return m.p2m[entry_at(m, gfn, leaf_level(m, gfn))] & P2M_DIRTY == 0


@kernel
def filter_by_d_bit(m: Machine) -> None:
    """Take frames out of the bitmap that a group opened and the hardware never wrote."""
    for gfn in range(m.frames.shape[0]):
        if m.frames[gfn].opened == 0 or not is_dirty(m, gfn):
            continue
        pay(m, _SCAN, _GROUP, 1)
        shadow = m.host[0].paging == SHADOW
        if _shadow_says_clean(m, gfn) if shadow else _p2m_says_clean(m, gfn):
            m.dirty[gfn >> 6] &= ~(1 << (gfn & 63))
            if shadow:
                # It leaves the bitmap, so no policy that goes by the bitmap would find it.
                revoke_writes(m, gfn)


@kernel
def pay_bitmap_copy(m: Machine) -> None:
    """Charge for copying the bitmap out."""
    leaves = (m.frames.shape[0] + FRAMES_PER_LEAF - 1) // FRAMES_PER_LEAF
    pay(m, _COPY, _BITMAP, leaves)


@kernel
def sync_hardware_log(m: Machine) -> None:
    """Move what the hardware has logged but not reported into the bitmap."""
    if m.host[0].pml_used > 0:
        drain_pml(m)


@kernel
def rearm(m: Machine, everything: bool, heavy: bool) -> None:
    """Revoke write access again.

    Args:
        everything: logging starts (or stops): not only the dirty frames.
        heavy: the older policy of each mode: blow (shadow), eager (HAP).
    """
    if m.host[0].paging == SHADOW:
        if heavy:
            blow_tables(m)
        elif everything:
            protect_all(m)
        else:
            protect_dirty(m)
    elif heavy:
        rearm_all(m)
    else:
        mark_root(m)


@kernel
def take_bitmap(m: Machine) -> int:
    """After the bitmap was copied out: clear it; returns the falsely dirty frames."""
    return clear_and_count_false(m, m.dirty.shape[0])


