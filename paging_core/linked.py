"""Kernels that kernels call: compiled as parts of their callers, and not as programs of their own.

Numba makes each function that another one calls into one that Python can call: it optimises it,
with all that it calls itself, makes machine code, wrappers and a file of it, and does so again for
each constant that it is called with. For 320 kernels that call each other a dozen deep that was 500
programs, nearly none of which Python ever calls. Here a callee is lowered once for its types and
linked into its caller as it is; what is optimised and becomes machine code is the kernel that
Python calls, whole. The first start takes a third of the processor time, and what was compiled is
as fast. This stands on parts of numba that are not documented (0.62 to 0.68 have them).
"""

from __future__ import annotations

from typing import Any, cast

from numba.core import compiler, sigutils, types
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import CPUDispatcher
from numba.core.typing.templates import make_concrete_template


class _Part(JITCodeLibrary):
    """Code that is linked into other code, which is optimised and becomes machine code there."""

    def _optimize_final_module(self) -> None:
        """Later, in its callers."""

    def _finalize_final_module(self) -> None:
        """Without handing it to the engine, which makes machine code of all that it has."""
        self._finalize_dynamic_globals()
        self._finalized = True


class Kernel(CPUDispatcher):
    """A dispatcher of numba's to Python, and a part to the kernels that call it."""

    def __init__(self, py_func: Any, **options: Any) -> None:
        """As of numba's own dispatchers."""
        super().__init__(py_func, **options)
        self._parts: dict[tuple[types.Type, ...], Any] = {}

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What numba's type inference asks a callee for: its signatures, these types' among them.

        A constant is of its type: it is folded where the callee is inlined, as it is without this.

        Returns:
            The template, the signature in Python's terms, the types by position, none by keyword.
        """
        folding = cast("Any", self)._compiler  # noqa: SLF001 - numba's types do not know it
        pysig, folded = folding.fold_argument_types(args, kws)
        plain = tuple(types.unliteral(each) for each in folded)
        if plain not in self._parts:
            self._parts[plain] = self._compile_part(plain)
        name = self.py_func.__name__
        signatures = [part.signature for part in self._parts.values()]
        return make_concrete_template(f"Part({name})", name, signatures), pysig, plain, {}

    def get_overload(self, sig: Any) -> Any:
        """What numba's lowering asks a callee for: the key under which its code is known."""
        args, _ = sigutils.normalize_signature(sig)
        return self._parts[tuple(args)].entry_point

    def _compile_part(self, args: tuple[types.Type, ...]) -> Any:
        flags: Any = compiler.Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        context: Any = self.targetctx
        library = _Part(context.codegen(), self.py_func.__qualname__)
        part = compiler.compile_internal(
            self.typingctx, context, library, self.py_func, args, None, flags, {}
        )
        key = object()
        context.insert_user_function(key, part.fndesc, [library])
        return part._replace(entry_point=key)
