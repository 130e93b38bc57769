"""Out-of-sync L1 tables: the guest edits a table freely, the shadow catches up later.

Xen keeps three per vCPU (arch/x86/mm/shadow/oos.c, multi.c). A table goes out of sync on a write
if it is shadowed as an L1 and as nothing else; a snapshot remembers what the shadow was built from.
It is brought back in sync when CR3 is loaded, when a fault links an L2 or L3 shadow (`resync` of
shadow_get_and_create_l1e), and when its slot is needed. A fault that walks through it builds its
entry and notes that in the snapshot; INVLPG takes one entry away (sh_invlpg). A blow destroys the
shadow, and with it the table is out of sync no more (shadow_demote): no clean resyncs anything.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import frame_at, memory, snapshots
from paging_core.kernels.baseline import baseline_row, forget_entry, twin_resyncs
from paging_core.kernels.shadow_entries import clear_l1_entry, revoke_writes
from paging_core.kernels.shadow_pages import find_page
from paging_core.kernels.state import ENTRIES, L1, N_OOS, Core
from paging_core.kernels.tlb import drop_translations, flush_tlb

_GO = int(Event.OUT_OF_SYNC)
_RESYNC = int(Event.RESYNC)
_REBUILD = int(Cause.REBUILD)


@kernel
def _place_of(m: Core, gfn: int) -> int:
    """Index of an out-of-sync table, or -1."""
    for i in range(N_OOS):
        if m.shadow.oos_gfn[i] == gfn:
            return i
    return -1


@kernel
def is_out_of_sync(m: Core, gfn: int) -> bool:
    """Whether this guest table may differ from its shadow right now."""
    return _place_of(m, gfn) >= 0


@kernel
def any_out_of_sync(m: Core) -> bool:
    """Whether a resync would find anything to do, here or in the twin."""
    for i in range(N_OOS):  # noqa: SIM110 - a kernel has no any()
        if m.shadow.oos_gfn[i] >= 0 or m.shadow.twin_oos_gfn[i] >= 0:
            return True
    return False


@kernel
def forget_slot(m: Core, page: int, slot: int) -> None:
    """The guest changed one L1 entry: the shadow entry goes, to be built again when needed."""
    clear_l1_entry(m, page, slot)
    forget_entry(m, baseline_row(m, page), slot)


@kernel
def note_built(m: Core, gfn: int, slot: int) -> None:
    """A shadow entry was built: if its table is out of sync, from what stands there now."""
    i = _place_of(m, gfn)
    if i >= 0:
        snapshots(m)[i * ENTRIES + slot] = memory(m)[gfn * ENTRIES + slot]


@kernel
def _resync(m: Core, i: int, cause: int) -> None:
    gfn = m.shadow.oos_gfn[i]
    m.shadow.oos_gfn[i] = -1
    pay(m, _RESYNC, cause, 1)
    page = find_page(m, gfn, L1)
    if page < 0:
        return
    for slot in range(ENTRIES):
        if memory(m)[gfn * ENTRIES + slot] != snapshots(m)[i * ENTRIES + slot]:
            clear_l1_entry(m, page, slot)
            if cause == BASE:
                forget_entry(m, baseline_row(m, page), slot)
    revoke_writes(m, gfn)
    if cause == BASE:
        flush_tlb(m, BASE)
    else:
        drop_translations(m)


@kernel
def resync_all(m: Core, cause: int) -> None:
    """Bring every out-of-sync table back, as a CR3 load must.

    Args:
        cause: BASE if the twin does so as well.
    """
    for i in range(N_OOS):
        if m.shadow.oos_gfn[i] >= 0:
            _resync(m, i, cause)
    if cause == BASE:
        twin_resyncs(m)


@kernel
def go_out_of_sync(m: Core, gfn: int, cause: int) -> bool:
    """Let a guest table be written freely; False if it is not just an L1.

    Args:
        cause: of the fault that asks for it.
    """
    if m.shadow.out_of_sync == 0 or frame_at(m, gfn).types != 1 << L1:
        return False
    if is_out_of_sync(m, gfn):
        return True
    i = m.shadow.oos_next
    m.shadow.oos_next = (i + 1) % N_OOS
    if m.shadow.oos_gfn[i] >= 0:
        _resync(m, i, cause)
    m.shadow.oos_gfn[i] = gfn
    for slot in range(ENTRIES):
        snapshots(m)[i * ENTRIES + slot] = memory(m)[gfn * ENTRIES + slot]
    pay(m, _GO, cause if cause == BASE else _REBUILD, 1)
    return True
