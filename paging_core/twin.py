"""The untracked twin: what the same operations take a guest whose writes nobody logs.

Accounts kept in the tracked guest cannot say it. They charge an event to tracking where a clean
took an entry away, but a clean changes what happens later as well: tables that are no longer
shadowed are not emulated, evicted shadows are others. So a clone of the guest, made at the moment
before logging is enabled, memory, shadows and TLB alike, runs the same operations beside it and is
never logged. Its time is the truth; what the causes do not add up to is *unattributed*.
"""

from __future__ import annotations

import os

from paging_core.memory import GuestMemory
from paging_core.units import FRAME_BYTES

_STRIDE_BYTES = 64 << 20


def copy_memory(source: GuestMemory, target: GuestMemory) -> None:
    """Copy what was ever touched of one memory into another that never was.

    Frames that nobody touched stay without memory behind them on either side.
    """
    end = source.n_frames * FRAME_BYTES
    at = 0
    while at < end:
        try:
            first = os.lseek(source.fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        at = os.lseek(source.fd, first, os.SEEK_HOLE)
        for start in range(first, at, _STRIDE_BYTES):
            part = slice(start // FRAME_BYTES, min(start + _STRIDE_BYTES, at) // FRAME_BYTES)
            target.frames[part] = source.frames[part]
