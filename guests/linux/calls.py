"""System calls that Python has no function for, on x86-64."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

SYS_USERFAULTFD = 323


def system_call(number: int, *arguments: int) -> int:
    """A system call of this process.

    Raises:
        OSError: it failed.
    """
    result: int = _LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
