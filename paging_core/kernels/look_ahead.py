"""Fetching into the cache what the operations to come will need.

The hot loop waits for memory when its accesses are scattered: for the page table entry, for
the frame's record, for the data. Operations are known in advance, so those lines can be asked
for while earlier operations are at work. Nothing that the guest or its tracker could notice
happens here: tables are read, and nothing is set, counted or charged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from paging_core.compiled import kernel
from paging_core.kernels.arrays import entries, memory
from paging_core.kernels.guest_walk import present_frame, slot_of
from paging_core.kernels.pointers import RecordArray
from paging_core.kernels.state import (
    CORE_DTYPE,
    ENTRIES,
    FRAME_DTYPE,
    PRESENT,
    SHADOW,
    SUPERPAGE,
    WORD_MASK,
    Core,
)
from paging_core.kernels.views import OpView
from paging_core.units import FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import REWRITE

_TARGET_OPS = 6
"""How far ahead the frame and its data are fetched …"""
_ENTRY_OPS = 12
"""… and, before that, the entry that says which frame it is."""


def _prefetch(field: str, item_bytes: int) -> Callable[[Core, int], None]:
    """An intrinsic that fetches one item of a field's array, by index."""

    @intrinsic
    def fetch(_context: Any, core: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word, number = ir.IntType(64), ir.IntType(32)
            offset = ir.Constant(word, CORE_DTYPE.fields[field][1])  # type: ignore[index]
            at = builder.add(builder.ptrtoint(args[0], word), offset)
            base = builder.load(builder.inttoptr(at, word.as_pointer()))
            item = context.cast(builder, args[1], signature.args[1], types.int64)
            place = builder.add(base, builder.mul(item, ir.Constant(word, item_bytes)))
            pointer = ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            hints = [ir.Constant(number, hint) for hint in (0, 3, 1)]  # read, keep, data
            builder.call(function, [builder.inttoptr(place, pointer), *hints])
            return context.get_dummy_value()

        return types.none(core, index), build

    return cast("Callable[[Core, int], None]", fetch)


_fetch_word = _prefetch("memory_at", 8)
_fetch_entry = _prefetch("entries_at", 8)
_fetch_frame = _prefetch("frames_at", FRAME_DTYPE.itemsize)


@kernel
def _guest_slot(m: Core, va: int) -> int:
    """Index in memory of the guest's L1 entry for an address, or -1."""
    table = m.vcpu.cr3
    for level in (4, 3, 2):
        entry = memory(m)[table * ENTRIES + slot_of(va, level)]
        table = present_frame(m, entry)
        if table < 0 or entry & SUPERPAGE:
            return -1
    return table * ENTRIES + slot_of(va, 1)


@kernel
def _shadow_slot(m: Core, va: int) -> int:
    """Index in `entries` of the shadow L1 entry for an address, or -1."""
    page = m.shadow.root
    for level in (4, 3, 2):
        entry = entries(m)[page * ENTRIES + slot_of(va, level)]
        if entry & PRESENT == 0:
            return -1
        page = entry >> FRAME_SHIFT
    return page * ENTRIES + slot_of(va, 1)


@kernel
def _fetch_translation(m: Core, va: int) -> None:
    if m.paging == SHADOW:
        slot = _shadow_slot(m, va)
        if slot >= 0:
            _fetch_entry(m, slot)
    else:
        slot = _guest_slot(m, va)
        if slot >= 0:
            _fetch_word(m, slot)


@kernel
def _fetch_target(m: Core, va: int) -> None:
    shadow = m.paging == SHADOW
    slot = _shadow_slot(m, va) if shadow else _guest_slot(m, va)
    if slot < 0:
        return
    gfn = present_frame(m, entries(m)[slot] if shadow else memory(m)[slot])
    if gfn >= 0:
        _fetch_frame(m, gfn)
        _fetch_word(m, gfn * WORDS_PER_FRAME + ((va >> 3) & WORD_MASK))


@kernel
def look_ahead(m: Core, ops: RecordArray[OpView], at: int) -> None:
    """Fetch what operations a little after `at` will need; worth it when `at` missed the TLB."""
    if at + _ENTRY_OPS >= ops.shape[0]:
        return
    later = ops[at + _ENTRY_OPS]
    if later.kind <= REWRITE:
        _fetch_translation(m, later.address)
    sooner = ops[at + _TARGET_OPS]
    if sooner.kind <= REWRITE:
        _fetch_target(m, sooner.address)
