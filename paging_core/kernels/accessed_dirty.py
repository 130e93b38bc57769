"""A and D bits that the hypervisor sets in the guest's own tables, as the hardware would.

Xen: guest_walk_tables. KVM: update_accessed_dirty_bits of paging_tmpl.h, before anything is mapped,
and whether or not it can be; a table whose entry changes is marked dirty there, too.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.arrays import frame_at, memory
from paging_core.kernels.bitmap import BY_LOG
from paging_core.kernels.guest_walk import Walk, missing_bits, slot_of
from paging_core.kernels.state import ENTRIES, Core
from paging_core.kernels.userfault import log_store


@kernel
def _set_guest_bits(m: Core, table: int, slot: int, leaf: bool, write: int) -> None:
    entry = memory(m)[table * ENTRIES + slot]
    missing = missing_bits(entry, leaf, write)
    if missing:
        log_store(m, table, BY_LOG)
        memory(m)[table * ENTRIES + slot] = entry | missing
        frame_at(m, table).written = 1


@kernel
def set_accessed_dirty(m: Core, va: int, walk: Walk, write: int) -> None:
    """Set A in every entry that a walk used, D in the leaf of a write; each change is logged."""
    _, _, t3, t2, t1, _ = walk
    _set_guest_bits(m, m.vcpu.cr3, slot_of(va, 4), False, write)
    _set_guest_bits(m, t3, slot_of(va, 3), False, write)
    _set_guest_bits(m, t2, slot_of(va, 2), t1 < 0, write)
    if t1 >= 0:
        _set_guest_bits(m, t1, slot_of(va, 1), True, write)
