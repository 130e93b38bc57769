"""A run of addresses with a guard on either side, into which a file is mapped.

Python's own `mmap` chooses where a mapping lies: guests come to lie side by side, and what reads
a little beyond one reads another. It also keeps a mapping for as long as any array over it is
alive, and one exception that was kept holds the memory of a whole guest.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

GUARD_BYTES = 64 << 20
"""Inaccessible on either side. More than one frame number leads to at the most: a group of 4096
frames (16 MiB) with a superpage (2 MiB) in it. Addresses alone: it costs no memory."""

LEFT_BYTES = 256 << 20
"""Addresses that a new mapping must leave to its process. With none left to a thread's stack or
arena (8 and 64 MiB), gRPC's C core ends the process and every guest in it: its allocator aborts
where it gets nothing. Only a limit of addresses (RLIMIT_AS, ``ulimit -v``) makes them scarce."""

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
_FIXED = 0x10
"""MAP_FIXED of Linux (asm-generic/mman-common.h): exactly there, in place of what was there."""
_NO_ACCESS = 0
"""PROT_NONE."""
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_FAILED = ctypes.c_void_p(-1).value

_libc: Any = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Reservation:
    """Addresses of its own for one file's content; every array over them keeps them.

    Attributes:
        size_bytes: of the file.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        """Map all of a file, readable and writable, shared with all others that map it.

        Raises:
            OSError: the machine has no addresses or no memory for it.
        """
        self.size_bytes = size_bytes
        whole_bytes = size_bytes + 2 * GUARD_BYTES
        start = _map(None, whole_bytes + LEFT_BYTES, _NO_ACCESS, _PRIVATE, -1)
        _libc.munmap(start + whole_bytes, LEFT_BYTES)  # it was there to be left
        # Not at exit: a guest's thread may still be at work in a process that ends.
        weakref.finalize(self, _libc.munmap, start, whole_bytes).atexit = False
        self._address = start + GUARD_BYTES
        _map(self._address, size_bytes, _READ_WRITE, mmap.MAP_SHARED | _FIXED, fd)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """How numpy finds the bytes; arrays made of this keep it alive."""
        return {
            "version": 3,
            "shape": (self.size_bytes,),
            "typestr": "|u1",
            "data": (self._address, False),
        }

    def bytes(self) -> npt.NDArray[np.uint8]:
        """All of it, uint8, shape (size_bytes,)."""
        return np.asarray(self)

    def give_back(self) -> None:
        """Close the file at once, even if arrays over it are still in use.

        Such an array reads zeros from now on, and what is written to it nobody else sees: to take
        the addresses away would end the process that comes by them once more. They go with the
        last array.
        """
        _map(self._address, self.size_bytes, _READ_WRITE, _PRIVATE | _FIXED, -1)


def _map(address: int | None, size_bytes: int, access: int, flags: int, fd: int) -> int:
    found: int = _libc.mmap(address, size_bytes, access, flags, fd, 0)
    if found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found
