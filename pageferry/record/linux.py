"""What attaching to a process takes of Linux and Python has no function for, on x86-64."""

from __future__ import annotations

import ctypes
import os

from guests.linux.calls import system_call

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)

SYS_CLOSE = 3
SYS_PRCTL = 157
SYS_PIDFD_GETFD = 438
_PR_SET_THP_DISABLE = 41


def ptrace(request: int, tid: int, address: int = 0, data: object = 0) -> int:
    """A ptrace request.

    Args:
        request: its number, of <linux/ptrace.h>.
        tid: the thread that it is about.
        address, data: what the request takes; data is a number or a ctypes pointer.

    Raises:
        OSError: it failed.
    """
    given = data if not isinstance(data, int) else ctypes.c_void_p(data)
    result: int = _LIBC.ptrace(request, tid, ctypes.c_void_p(address), given)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def pidfd_getfd(pidfd: int, number: int) -> int:
    """A copy of another process's file descriptor.

    Raises:
        OSError: not permitted, or there is none of that number.
    """
    return system_call(SYS_PIDFD_GETFD, pidfd, number, 0)


def without_huge_pages() -> None:
    """Give this process, and what it executes, no transparent huge pages.

    Raises:
        OSError: the kernel has none.
    """
    system_call(SYS_PRCTL, _PR_SET_THP_DISABLE, 1, 0, 0, 0)
