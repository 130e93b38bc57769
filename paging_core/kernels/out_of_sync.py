"""Out-of-sync L1 tables: the guest edits a table freely, the shadow catches up later.

Xen keeps three per vCPU. A table goes out of sync on a write if it is shadowed as an L1
and as nothing else; a snapshot remembers what the shadow was built from. It is brought
back in sync on a context switch, on INVLPG, when a fault walks through it, when its slot
is needed and at each clean.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import frame_at, memory, snapshots
from paging_core.kernels.baseline import baseline_row, forget_entry, revoke_table_writes
from paging_core.kernels.shadow_entries import clear_l1_entry
from paging_core.kernels.shadow_pages import find_page
from paging_core.kernels.state import ENTRIES, L1, N_OOS, Core
from paging_core.kernels.tlb import flush_tlb

_GO = int(Event.OUT_OF_SYNC)
_RESYNC = int(Event.RESYNC)


@kernel
def is_out_of_sync(m: Core, gfn: int) -> bool:
    """Whether this guest table may differ from its shadow right now."""
    for i in range(N_OOS):  # noqa: SIM110 - a kernel has no any()
        if m.shadow.oos_gfn[i] == gfn:
            return True
    return False


@kernel
def forget_slot(m: Core, page: int, slot: int) -> None:
    """The guest changed one L1 entry: the shadow entry goes, to be built again when needed."""
    clear_l1_entry(m, page, slot)
    forget_entry(m, baseline_row(m, page), slot)


@kernel
def _resync(m: Core, i: int) -> None:
    gfn = m.shadow.oos_gfn[i]
    m.shadow.oos_gfn[i] = -1
    pay(m, _RESYNC, BASE, 1)
    page = find_page(m, gfn, L1)
    if page < 0:
        return
    for slot in range(ENTRIES):
        if memory(m)[gfn * ENTRIES + slot] != snapshots(m)[i * ENTRIES + slot]:
            forget_slot(m, page, slot)
    revoke_table_writes(m, gfn)
    flush_tlb(m, BASE)


@kernel
def resync_all(m: Core) -> None:
    """Bring every out-of-sync table back, as a context switch or INVLPG must."""
    for i in range(N_OOS):
        if m.shadow.oos_gfn[i] >= 0:
            _resync(m, i)


@kernel
def go_out_of_sync(m: Core, gfn: int) -> bool:
    """Let a guest table be written freely; False if it is not just an L1."""
    if m.shadow.out_of_sync == 0 or frame_at(m, gfn).types != 1 << L1:
        return False
    if is_out_of_sync(m, gfn):
        return True
    i = m.shadow.oos_next
    m.shadow.oos_next = (i + 1) % N_OOS
    if m.shadow.oos_gfn[i] >= 0:
        _resync(m, i)
    m.shadow.oos_gfn[i] = gfn
    for slot in range(ENTRIES):
        snapshots(m)[i * ENTRIES + slot] = memory(m)[gfn * ENTRIES + slot]
    pay(m, _GO, BASE, 1)
    return True
