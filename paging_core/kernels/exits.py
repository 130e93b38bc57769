"""The border between guest and hypervisor: two calls through pointers in the core record.

Everything above (the hot loop, the guest's kernel) is compiled without the hypervisor's
code: numba links and optimises whatever a kernel calls into that kernel again, so a
direct call would compile the whole fault path fifteen times over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
from numba import types
from numba.extending import intrinsic

from paging_core.compiled import kernel
from paging_core.kernels.arrays import frame_at, memory
from paging_core.kernels.calls import call_through
from paging_core.kernels.dirty_ring import leave_full_ring
from paging_core.kernels.flow import FIRST_WRITE, note
from paging_core.kernels.hap import hap_translate
from paging_core.kernels.shadow_walk import shadow_translate
from paging_core.kernels.state import CORE_DTYPE, OPENED, OPENED_AND_WRITTEN, SHADOW, Core
from paging_core.kernels.table_writes import after_table_write
from paging_core.kernels.tlb import pay_miss
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME

_CORE_TYPE = numba.from_dtype(CORE_DTYPE)
_SIGNATURE = types.int64(types.intp, types.int64, types.int64, types.int64)


@intrinsic
def _record_at(_context: Any, address: Any) -> Any:
    """The core record that lies at an address."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(_CORE_TYPE))

    return _CORE_TYPE(address), build


_core_from = cast("Callable[[int], Core]", _record_at)

translate_miss = call_through("translate_miss_at")
"""(core, va, write, 0) → as `shadow_fault` returns: the hardware's walk and all exits."""
emulate_store = call_through("emulate_store_at")
"""(core, gfn, slot, value) → 0: the hypervisor stores to a page table for the guest."""


@kernel
def _hap_access(m: Core, va: int, write: int) -> int:
    """Under HAP; a full dirty ring is emptied before the guest runs on."""
    found = hap_translate(m, va, write)
    while leave_full_ring(m):
        if found >= 0:  # it runs only now, and may be protected again
            found = hap_translate(m, va, write)
    return found


@kernel
def _note_first_write(m: Core, gfn: int) -> None:
    """An opened frame is really written: its first write always comes through a TLB miss."""
    frame = frame_at(m, gfn)
    if frame.opened == OPENED:
        frame.opened = OPENED_AND_WRITTEN
        note(m, FIRST_WRITE, gfn, gfn, 0)


@kernel
def _translate_miss(m: Core, va: int, write: int) -> int:
    pay_miss(m, va >> FRAME_SHIFT, write)
    found = shadow_translate(m, va, write) if m.paging == SHADOW else _hap_access(m, va, write)
    if write != 0 and m.flow.rows > 0 and 0 <= found < m.n_frames:
        _note_first_write(m, found)
    return found


@kernel
def _emulate_store(m: Core, gfn: int, slot: int, value: int) -> None:
    memory(m)[gfn * WORDS_PER_FRAME + slot] = value
    after_table_write(m, gfn, slot)


@numba.cfunc(_SIGNATURE, cache=True)
def _translate_miss_entry(core_at: int, va: int, write: int, _unused: int) -> int:
    return _translate_miss(_core_from(core_at), va, write)


@numba.cfunc(_SIGNATURE, cache=True)
def _emulate_store_entry(core_at: int, gfn: int, slot: int, value: int) -> int:
    _emulate_store(_core_from(core_at), gfn, slot, value)
    return 0


def entry_addresses() -> dict[str, int]:
    """What the core record's `*_at` fields for the two calls must hold."""
    return {
        "translate_miss_at": cast("int", _translate_miss_entry.address),
        "emulate_store_at": cast("int", _emulate_store_entry.address),
    }
