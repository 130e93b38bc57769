"""KVM's dirty ring: the vCPU notes each frame that it marks, and stops when the ring is full.

virt/kvm/dirty_ring.c. The ring takes the place of KVM's bitmap; the bitmap here is what user space
has gathered from it. Each mark is an entry, whatever is in the ring already. With 64 entries left
(KVM_DIRTY_RING_RSVD_ENTRIES) the vCPU goes to user space before it runs on: what is in the ring is
gathered and write-protected again. The last entry is that of the very store that is about to run,
so that faults once more and is noted twice. With hardware that logs writes the reserve is larger by
its buffer (kvm_dirty_ring_get_rsvd_entries), whose entries all come at once, of stores that ran.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import Cause, Event
from paging_core.kernels.account import pay
from paging_core.kernels.arrays import ring
from paging_core.kernels.p2m import rearm_all, rearm_leaf
from paging_core.kernels.shadow_clean import protect_all
from paging_core.kernels.shadow_entries import revoke_writes
from paging_core.kernels.state import HAP, Core
from paging_core.kernels.tlb import flush_tlb

_EXIT = int(Event.EXIT)
_PROTECT = int(Event.WRITE_PROTECT_FRAME)
_PROTECT_CAUSE = int(Cause.WRITE_PROTECT)
_BITMAP = int(Cause.BITMAP)
_TLB = int(Cause.TLB)


@kernel
def _protect_all(m: Core) -> None:
    if m.paging == HAP:
        rearm_all(m)
    else:
        protect_all(m)


@kernel
def reset_ring(m: Core) -> None:
    """Empty the ring: the frames in it lose write access (KVM_RESET_DIRTY_RINGS).

    KVM warns and loses what a full ring has no room for. Here everything is protected then.
    """
    if m.ring.overrun:
        _protect_all(m)
    for i in range(m.ring.used):
        if m.paging == HAP:
            rearm_leaf(m, ring(m)[i])
            continue
        revoke_writes(m, ring(m)[i])
        pay(m, _PROTECT, _PROTECT_CAUSE, 1)
    m.ring.used, m.ring.overrun = 0, 0
    flush_tlb(m, _TLB)


@kernel
def leave_full_ring(m: Core) -> bool:
    """KVM_EXIT_DIRTY_RING_FULL: if the ring is full, the vCPU waits until it was emptied."""
    if m.ring.limit == 0 or m.ring.used < m.ring.limit:
        return False
    m.ring.full += 1
    pay(m, _EXIT, _BITMAP, 1)
    reset_ring(m)
    return True
