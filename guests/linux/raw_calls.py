"""System calls from compiled code, which may not hold or want the interpreter lock.

The C library's own functions by name: numba resolves them when it loads the code, so what was
compiled can be kept. All arguments are integers, addresses too.
"""

from __future__ import annotations

from typing import Any, cast

from numba import types

from guests.compiled import kernel
from guests.linux.errnos import EINTR
from paging_core.kernels.pointers import Ints
from paging_core.units import NS_PER_S

_WORD: Any = types.int64
_HALF: Any = types.int32
_POINTER: Any = cast("Any", types).CPointer(_HALF)
_call: Any = types.ExternalFunction("syscall", _WORD(*[_WORD] * 7))
_errno: Any = types.ExternalFunction("__errno_location", _POINTER())
_clock: Any = types.ExternalFunction("clock_gettime", _HALF(_WORD, _WORD))

SYS_READ, SYS_WRITE, SYS_CLOSE, SYS_POLL, SYS_IOCTL = 0, 1, 3, 7, 16
SYS_SCHED_YIELD, SYS_MADVISE, SYS_NANOSLEEP = 24, 28, 35
_MONOTONIC = 1


@kernel
def raw_call(number: int, a: int, b: int, c: int) -> int:
    """A system call of up to three arguments; its result, or -errno."""
    while True:
        result: int = _call(number, a, b, c, 0, 0, 0)
        if result != -1:
            return result
        error = int(_errno()[0])
        if error != EINTR:
            return -error


@kernel
def now_ns(timespec: Ints, address: int) -> int:
    """The monotonic clock.

    Args:
        timespec: two words that may be overwritten.
        address: of them.
    """
    _clock(_MONOTONIC, address)
    return timespec[0] * NS_PER_S + timespec[1]
