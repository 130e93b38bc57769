"""Guest memory: real bytes in frames of 4 KiB, in one mapping that processes can share."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadOption, LimitExceeded
from paging_core.units import FRAME_BYTES, format_bytes

_STRIDE_FRAMES = 16384
"""Touched between two looks at whether somebody still wants the memory: 64 MiB."""

Frames = npt.NDArray[np.uint8]
"""Frames as bytes, shape (n, 4096)."""
Words = npt.NDArray[np.int64]
"""Frames as 8-byte words (page table entries, for one), shape (n, 512)."""


class GuestMemory:
    """`n_frames` frames backed by an anonymous memory file (memfd).

    Attributes:
        frames: the memory as bytes, uint8, shape (n_frames, 4096).
        words: the same memory as int64, shape (n_frames, 512).
        fd: the memory file, for a process that shares this memory.
    """

    def __init__(self, n_frames: int, name: str = "guest") -> None:
        """Map fresh zero memory.

        Raises:
            BadOption: no frames at all.
            LimitExceeded: the machine has no room for it.
        """
        if n_frames <= 0:
            raise BadOption(f"a guest of {n_frames} frames has no memory")
        size_bytes = n_frames * FRAME_BYTES
        self.n_frames = n_frames
        self.fd = os.memfd_create(f"pageferry-{name}", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size_bytes)
            self._map = mmap.mmap(self.fd, size_bytes)
        except (OSError, ValueError, OverflowError) as error:
            os.close(self.fd)
            raise LimitExceeded(
                f"this machine cannot map {format_bytes(size_bytes)} of guest memory ({error}); "
                "use a smaller guest"
            ) from error
        self.frames: Frames = np.frombuffer(self._map, np.uint8).reshape(n_frames, FRAME_BYTES)
        self.words: Words = self.frames.reshape(-1).view(np.int64).reshape(n_frames, -1)

    def populate(self, look_up: Callable[[], None] = lambda: None) -> None:
        """Touch every frame now: first touch is many times slower than a copy.

        Args:
            look_up: called now and then; what it raises ends it.
        """
        for first in range(0, self.n_frames, _STRIDE_FRAMES):
            look_up()
            self.words[first : first + _STRIDE_FRAMES, 0] = 0

    def close(self) -> None:
        """Give the memory back once the last array over it is gone."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        # The arrays keep the mapping alive; dropping ours lets the last user end it.
        del self.frames, self.words, self._map

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
