"""The border between guest and hypervisor: two calls through pointers in the core record.

Everything above (the hot loop, the guest's kernel) is compiled without the hypervisor's
code: numba links and optimises whatever a kernel calls into that kernel again, so a
direct call would compile the whole fault path fifteen times over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from paging_core.compiled import kernel
from paging_core.kernels.arrays import memory
from paging_core.kernels.hap import hap_translate
from paging_core.kernels.shadow_walk import shadow_translate
from paging_core.kernels.state import CORE_DTYPE, SHADOW, Core
from paging_core.kernels.table_writes import after_table_write
from paging_core.kernels.tlb import pay_miss

_CORE_TYPE = numba.from_dtype(CORE_DTYPE)
_SIGNATURE = types.int64(types.intp, types.int64, types.int64, types.int64)


@intrinsic
def _record_at(_context: Any, address: Any) -> Any:
    """The core record that lies at an address."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(_CORE_TYPE))

    return _CORE_TYPE(address), build


def _call_through(field: str) -> Callable[[Core, int, int, int], int]:
    """An intrinsic that calls the function whose address is in a field of the core."""

    @intrinsic
    def call(_context: Any, core: Any, a: Any, b: Any, c: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(64)
            at = builder.ptrtoint(args[0], word)
            offset = ir.Constant(word, CORE_DTYPE.fields[field][1])  # type: ignore[index]
            slot = builder.inttoptr(builder.add(at, offset), word.as_pointer())
            kind = ir.FunctionType(word, [word] * 4).as_pointer()
            function = builder.inttoptr(builder.load(slot), kind)
            values = [
                context.cast(builder, value, given, types.int64)
                for value, given in zip(args[1:], signature.args[1:], strict=True)
            ]
            return builder.call(function, [at, *values])

        return types.int64(core, a, b, c), build

    return cast("Callable[[Core, int, int, int], int]", call)


_core_from = cast("Callable[[int], Core]", _record_at)

translate_miss = _call_through("translate_miss_at")
"""(core, va, write, 0) → as `shadow_fault` returns: the hardware's walk and all exits."""
emulate_store = _call_through("emulate_store_at")
"""(core, gfn, slot, value) → 0: the hypervisor stores to a page table for the guest."""


@kernel
def _translate_miss(m: Core, va: int, write: int) -> int:
    pay_miss(m, va >> 12, write)
    if m.paging == SHADOW:
        return shadow_translate(m, va, write)
    return hap_translate(m, va, write)


@kernel
def _emulate_store(m: Core, gfn: int, slot: int, value: int) -> None:
    memory(m)[gfn * 512 + slot] = value
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
