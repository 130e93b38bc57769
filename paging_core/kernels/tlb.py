"""A small direct-mapped TLB of 4 KiB translations.

It decides which accesses reach a table at all. Beside the real content every slot knows
whether it would still be valid had only the guest itself flushed (`base_*`): since a
direct-mapped slot holds the last page that hashed to it in either world, that answers
exactly which misses tracking caused.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import BASE, pay
from paging_core.kernels.arrays import tlb_at
from paging_core.kernels.state import SHADOW, Core
from paging_core.units import FRAME_SHIFT

_GENERATION_SHIFT = 36
_VPN_MASK = (1 << _GENERATION_SHIFT) - 1
_MAX_GENERATION = 1 << 26
_TLB = int(Cause.TLB)
_FLUSH = int(Event.TLB_FLUSH)
_SYNC = int(Event.P2M_SYNC)
_MISS_1D = int(Event.TLB_MISS_1D)
_MISS_2D = int(Event.TLB_MISS_2D)


@kernel
def tlb_tag(m: Core, vpn: int) -> int:
    """What the tag of a valid slot for this page must be."""
    return vpn | (m.tlb.generation << _GENERATION_SHIFT)


@kernel
def _forget_old_generations(m: Core) -> None:
    # Once in 2**26 flushes: tags of the first generations must not come alive again.
    for i in range(m.tlb.entries):
        tlb_at(m, i).tag = -1
        tlb_at(m, i).base_generation = -1
    m.tlb.generation = 0
    m.tlb.base_generation = 0


@kernel
def drop_translations(m: Core) -> None:
    """Drop every translation as part of something that is paid for; the twin keeps its own."""
    m.tlb.generation += 1
    if m.tlb.generation >= _MAX_GENERATION:
        _forget_old_generations(m)


@kernel
def flush_tlb(m: Core, cause: int) -> None:
    """Drop every translation; `cause` is BASE when the guest itself flushes."""
    if cause == BASE:
        m.tlb.base_generation += 1
    else:
        pay(m, _FLUSH, cause, 1)
    drop_translations(m)


@kernel
def sync_p2m(m: Core, cause: int) -> None:
    """A present P2M entry was changed: tell the processors that run the guest, as Xen's EPT does.

    xen/arch/x86/mm/p2m-ept.c: `ept_set_entry` ends in `ept_sync_domain` unless the old entry was
    not present, and that in an IPI that is waited for and an INVEPT, which drops all translations.
    KVM, which only ever takes a right away with a flush, does not.
    """
    if m.hap.syncs == 0:
        return
    pay(m, _SYNC, cause, 1)
    drop_translations(m)


@kernel
def invalidate_page(m: Core, va: int) -> None:
    """INVLPG: drop the translation of one page."""
    vpn = va >> FRAME_SHIFT
    slot = tlb_at(m, vpn & m.tlb.mask)
    if slot.tag >= 0 and slot.tag & _VPN_MASK == vpn:
        slot.tag = -1
        slot.base_generation = -1


@kernel
def pay_miss(m: Core, vpn: int, write: int) -> None:
    """Charge a table walk, to tracking if it is only a flush of tracking that caused it."""
    slot = tlb_at(m, vpn & m.tlb.mask)
    same_page = slot.tag >= 0 and slot.tag & _VPN_MASK == vpn
    base_hit = same_page and slot.base_generation == m.tlb.base_generation
    if write != 0 and slot.base_writable == 0:
        base_hit = False
    event = _MISS_1D if m.paging == SHADOW else _MISS_2D
    pay(m, event, _TLB if base_hit else BASE, 1)


@kernel
def fill_tlb(m: Core, vpn: int, gfn: int, writable: int, base_writable: int) -> None:
    """Cache a translation; `writable` only if a write needs no table any more (D is set)."""
    slot = tlb_at(m, vpn & m.tlb.mask)
    same_page = slot.tag >= 0 and slot.tag & _VPN_MASK == vpn
    if same_page and slot.base_generation == m.tlb.base_generation:
        base_writable |= slot.base_writable
    slot.tag = tlb_tag(m, vpn)
    slot.gfn = gfn
    slot.writable = writable
    slot.base_writable = base_writable
    slot.base_generation = m.tlb.base_generation
