"""Log-dirty as a whole: enable, clean, peek, disable, for every kind of paging."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.adaptive import adapt_groups, add_round_to_history, note_written
from paging_core.kernels.arrays import dirty, entries, frame_at, links, p2m
from paging_core.kernels.bitmap import (
    clear_and_count_false,
    is_dirty,
    mark_everything,
    set_clean,
)
from paging_core.kernels.cr3 import change_mode
from paging_core.kernels.dirty_ring import reset_ring
from paging_core.kernels.hap import drain_pml
from paging_core.kernels.p2m import (
    P2M_DIRTY,
    leaf_at,
    leaf_level,
    mark_root,
    rearm_all,
    rearm_dirty,
    rearm_leaf,
    split_everything,
    split_to_frames,
)
from paging_core.kernels.shadow_clean import (
    blow_tables,
    protect_all,
    protect_dirty,
)
from paging_core.kernels.shadow_entries import mappings, revoke_writes
from paging_core.kernels.state import DIRTY, SHADOW, Core
from paging_core.kernels.tlb import flush_tlb
from paging_core.kernels.userfault import (
    open_all_pages,
    protect_all_pages,
    protect_dirty_pages,
    protect_page,
)

FRAMES_PER_LEAF = 32768
"""Frames in one 4 KiB leaf of Xen's log-dirty trie."""

_SCAN = int(Event.D_BIT_SCAN)
_COPY = int(Event.BITMAP_COPY)
_GROUP = int(Cause.GROUP)
_BITMAP = int(Cause.BITMAP)
_PROTECT = int(Event.WRITE_PROTECT_FRAME)
_PROTECT_CAUSE = int(Cause.WRITE_PROTECT)
_TLB = int(Cause.TLB)


@kernel
def _shadow_says_clean(m: Core, gfn: int) -> bool:
    """Whether D bits prove that nobody wrote an opened frame.

    One mapping is proof, and so is none (an entry that goes away leaves its D bit's word
    behind). With several, a hypervisor with a reverse map reads them all; Xen, which knows
    one at best, must assume dirty, as its VRAM tracker does.
    """
    seen = 0
    entry_id = int(frame_at(m, gfn).rmap)
    while entry_id >= 0:
        seen += 1
        pay(m, _SCAN, _GROUP, 1)
        if entries(m)[entry_id] & DIRTY or (seen > 1 and not m.clean.has_reverse_map):
            return False
        entry_id = int(links(m)[entry_id * 2])
    return True


@kernel
def _p2m_says_clean(m: Core, gfn: int) -> bool:
    pay(m, _SCAN, _GROUP, 1)
    return p2m(m)[leaf_at(m, gfn)] & P2M_DIRTY == 0


@kernel
def _says_clean(m: Core, gfn: int) -> bool:
    if m.paging == SHADOW:
        return _shadow_says_clean(m, gfn)
    return _p2m_says_clean(m, gfn)


@kernel
def _drop(m: Core, gfn: int) -> None:
    """Take a frame out of the bitmap that nobody wrote."""
    if m.paging == SHADOW:
        # It leaves the bitmap, so no policy that goes by the bitmap would find it.
        revoke_writes(m, gfn)
    elif m.clean.by_bitmap:  # and no clean of everything follows
        rearm_leaf(m, gfn)
    dirty(m)[gfn >> 6] &= ~(1 << (gfn & 63))


@kernel
def _note_written(m: Core, gfn: int) -> None:
    """Adaptive groups count written frames; of some opened ones only the sender can tell."""
    opened = frame_at(m, gfn).opened != 0
    unknown = opened and m.paging == SHADOW and not m.clean.has_reverse_map
    note_written(m, gfn, unknown and mappings(m, gfn) > 1)


@kernel
def judge_groups(m: Core, drop: bool) -> None:
    """Look at every frame that a group opened: did the hardware write it?

    Args:
        drop: take those that it never wrote out of the bitmap (the D-bit filter).
    """
    if m.group.adaptive:
        add_round_to_history(m, drop)
    dropped = 0
    for gfn in range(m.n_frames):
        if not is_dirty(m, gfn):
            continue
        if frame_at(m, gfn).opened != 0 and _says_clean(m, gfn):
            if drop:
                _drop(m, gfn)
                dropped += 1
        elif m.group.adaptive:
            _note_written(m, gfn)
    if m.clean.defers and dropped:
        flush_tlb(m, _TLB)
    if m.group.adaptive:
        adapt_groups(m, drop)


@kernel
def pay_bitmap_copy(m: Core) -> None:
    """Charge for copying the bitmap out; user space has a dirty ring, and its own log, itself."""
    if m.ring.limit > 0 or m.uffd.mode:
        return
    leaves = (m.n_frames + FRAMES_PER_LEAF - 1) // FRAMES_PER_LEAF
    pay(m, _COPY, _BITMAP, leaves)


@kernel
def sync_hardware_log(m: Core) -> None:
    """Move what the hardware has logged but not reported into the bitmap."""
    if m.hap.pml_used > 0:
        drain_pml(m)


@kernel
def _rearm_shadow(m: Core, everything: bool) -> None:
    if m.clean.drops_all:
        blow_tables(m, everything)
    elif everything:
        protect_all(m)
    elif m.ring.limit > 0:
        reset_ring(m)
    else:
        protect_dirty(m)
    if everything:
        change_mode(m)


@kernel
def _rearm_p2m(m: Core, everything: bool) -> None:
    if m.ring.limit > 0 and not everything:
        reset_ring(m)
    elif m.clean.by_bitmap and not everything:
        rearm_dirty(m)
    elif m.clean.by_bitmap or m.clean.drops_all:
        rearm_all(m)
    else:
        mark_root(m)


@kernel
def rearm(m: Core, everything: bool) -> None:
    """Revoke write access again.

    Args:
        everything: logging starts (or stops): not only the dirty frames.
    """
    if m.uffd.mode:
        if everything:
            protect_all_pages(m)
        else:
            protect_dirty_pages(m)
    elif m.paging == SHADOW:
        _rearm_shadow(m, everything)
    else:
        _rearm_p2m(m, everything)


@kernel
def _protect(m: Core, gfn: int, before: int) -> None:
    """One frame whose log is cleared.

    Args:
        before: the frame that was looked at before it; a superpage that never was protected loses
            write access once for each 64 frames (kvm_arch_mmu_enable_log_dirty_pt_masked).
    """
    if m.uffd.mode:
        protect_page(m, gfn)
        return
    if m.paging == SHADOW:
        revoke_writes(m, gfn)
        pay(m, _PROTECT, _PROTECT_CAUSE, 1)
        return
    if m.hap.splits_eagerly:
        split_to_frames(m, gfn)
    if m.log.starts_full == 0 or leaf_level(m, gfn) == 1 or gfn >> 6 != before >> 6:
        rearm_leaf(m, gfn)


@kernel
def start_log(m: Core) -> None:
    """Logging starts: nobody may write unseen, or every frame counts as written."""
    m.log.enabled = 1
    if m.log.starts_full:
        mark_everything(m)
        pay_bitmap_copy(m)
        if m.paging == SHADOW:
            change_mode(m)
        return
    if m.hap.splits_eagerly:
        split_everything(m)
    rearm(m, True)


@kernel
def stop_log(m: Core) -> None:
    """Logging ends. Shadows heal by themselves, fault by fault; the P2M is given write back."""
    sync_hardware_log(m)
    m.log.enabled = 0
    if m.uffd.mode:
        open_all_pages(m)
    elif m.paging != SHADOW:
        rearm(m, True)
    else:
        change_mode(m)


@kernel
def clear_log(m: Core, gfns: npt.NDArray[np.int64]) -> None:
    """Clear the log for some frames: the dirty ones lose write access and leave the bitmap.

    Who calls this is about to send them all; what is written from here on is logged again.
    Others of the same chunk stay as they are: they may have become dirty since the sync.
    """
    sync_hardware_log(m)
    cleared = 0
    for i in range(len(gfns)):
        gfn = gfns[i]
        if not is_dirty(m, gfn):
            continue
        _protect(m, gfn, gfns[i - 1] if i else -1)
        set_clean(m, gfn)
        cleared += 1
    if cleared:
        flush_tlb(m, _TLB)


@kernel
def take_bitmap(m: Core) -> int:
    """After the bitmap was copied out: clear it; returns the falsely dirty frames."""
    return clear_and_count_false(m, m.log.dirty_words)
