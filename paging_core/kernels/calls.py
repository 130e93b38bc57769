"""Calling through an address in the core record: to code that a kernel must not contain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from paging_core.kernels.state import CORE_DTYPE, Core


def call_through(field: str) -> Callable[[Core, int, int, int], int]:
    """An intrinsic that calls the function whose address is in a field of the core.

    Args:
        field: of CORE_DTYPE; the function takes the core's address and three int64.
    """

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
