"""Guest memory: real bytes in frames of 4 KiB, in one mapping that processes can share."""

from __future__ import annotations

import ctypes
import errno
import os
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadOption, LimitExceeded
from paging_core.reservation import Reservation
from paging_core.units import FRAME_BYTES, format_bytes

_STRIDE_FRAMES = 16384
"""Touched between two checks whether the memory is still wanted: 64 MiB."""

Frames = npt.NDArray[np.uint8]
"""Frames as bytes, shape (n, 4096)."""
Words = npt.NDArray[np.int64]
"""Frames as 8-byte words (page table entries, for one), shape (n, 512)."""


_BLOCK_BYTES = 512
"""What `st_blocks` counts in (stat(2))."""


class GuestMemory:
    """`n_frames` frames backed by an anonymous memory file (memfd).

    Attributes:
        frames: the memory as bytes, uint8, shape (n_frames, 4096).
        words: the same memory as int64, shape (n_frames, 512).
        fd: the memory file, for a process that shares this memory.
    """

    def __init__(self, n_frames: int, name: str = "guest") -> None:
        """Map fresh zero memory, with inaccessible addresses on either side of it.

        Raises:
            BadOption: no frames at all.
            LimitExceeded: the machine has no room for it, or no file descriptor.
        """
        if n_frames <= 0:
            raise BadOption(f"a guest of {n_frames} frames has no memory")
        size_bytes = n_frames * FRAME_BYTES
        self.n_frames = n_frames
        try:
            self.fd = os.memfd_create(f"pageferry-{name}", os.MFD_CLOEXEC)
            # Also for a memory that is dropped and never closed: its frames go with its arrays.
            self._close_file = weakref.finalize(self, os.close, self.fd)
            os.ftruncate(self.fd, size_bytes)
            self._reservation = Reservation(self.fd, size_bytes)
        except (OSError, OverflowError, ctypes.ArgumentError) as error:
            if hasattr(self, "_close_file"):
                self._close_file()
            raise _no_room(size_bytes, error) from None
        self.frames: Frames = self._reservation.bytes().reshape(n_frames, FRAME_BYTES)
        self.words: Words = self.frames.reshape(-1).view(np.int64).reshape(n_frames, -1)

    def populate(self, look_up: Callable[[], None] = lambda: None) -> None:
        """Touch every frame now: first touch is many times slower than a copy.

        Args:
            look_up: called now and then; what it raises ends it.
        """
        for first in range(0, self.n_frames, _STRIDE_FRAMES):
            look_up()
            self.words[first : first + _STRIDE_FRAMES, 0] = 0

    @property
    def touched_bytes(self) -> int:
        """Of it, what was written to or read: the machine gives a frame at its first use."""
        return 0 if self.fd < 0 else os.fstat(self.fd).st_blocks * _BLOCK_BYTES

    def close(self) -> None:
        """Give the memory back now, though arrays over it may live on (they hold zeros then)."""
        if self.fd < 0:
            return
        self._reservation.give_back()
        self._close_file()
        self.fd = -1
        del self.frames, self.words, self._reservation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _no_room(size_bytes: int, error: Exception) -> LimitExceeded:
    size = format_bytes(size_bytes)
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return LimitExceeded(
            f"no file descriptor is left for {size} of guest memory; "
            "delete guests or raise the limit (ulimit -n)"
        )
    return LimitExceeded(
        f"this machine cannot map {size} of guest memory ({error}); use a smaller guest "
        "or raise its limit of addresses (ulimit -v)"
    )
