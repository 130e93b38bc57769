"""What a guest executes: one record per operation, in arrays that kernels fill and run.

A workload is a pure function from a position (operations executed so far) to operations,
so its whole state is one integer that travels with the guest.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

READ = 0
"""Load from `address`."""
WRITE = 1
"""Store `words` 8-byte words from `address` on (`value`, `value + 1`, …), within one frame."""
REWRITE = 2
"""Store what already stands there: a silent store of `words` words."""
SWITCH = 3
"""Context switch to process `address`."""
MMAP = 4
"""Map `value` fresh zero pages at `address` in the current process, populated."""
MUNMAP = 5
"""Unmap `value` pages at `address` in the current process and free them."""
FORK = 6
"""Fork the current process, copy-on-write, into the free process slot `address`."""
EXIT = 7
"""End process `address` (not the current one) and free its memory and tables."""
IDLE = 8
"""Do nothing for `value` nanoseconds."""
MMAP_HUGE = 9
"""Like MMAP with 2 MiB superpages: `address` and `value` are multiples of 512 pages."""
MMAP_SHARED = 10
"""Map a part of the file, shared, at `address` (MAP_FIXED, not populated): `value` is the number of
pages, and the first page of the file from bit FIRST_PAGE_SHIFT on. What was mapped there goes."""
MMAP_PRIVATE = 11
"""Likewise private: a store goes to a copy."""
FILE_READ = 12
"""read(): from byte `address` of the file, `words` 8-byte words to user address `value`; within one
frame on either side."""
FILE_WRITE = 13
"""write(): at byte `address` of the file, `words` 8-byte words (`value`, …), within one page."""
FILE_REWRITE = 14
"""write() of what stands there already."""
FILE_SYNC = 15
"""Write back: clean `value` pages of the file from page `address` on."""

FIRST_PAGE_SHIFT = 32
"""Of `value` of MMAP_SHARED and MMAP_PRIVATE."""
FILE_PAGES = 1 << 18
"""Pages of the file: 1 GiB."""
MAX_PROCESSES = 16
USER_TOP = 1 << 47
"""User addresses are below this one; process 0 is current when a workload starts."""

OP_DTYPE = np.dtype(
    [
        ("address", np.int64),
        ("value", np.int64),
        ("gap_ps", np.uint32),
        ("words", np.uint16),
        ("kind", np.uint8),
        ("_", np.uint8),
    ]
)
"""One operation, 24 bytes. `gap_ps`: guest compute time before it, in picoseconds."""

Ops = npt.NDArray[np.void]
"""Operations: a one-dimensional array of `OP_DTYPE`."""


class Workload(Protocol):
    """A seeded generator of guest operations.

    Touching a user page that was never mapped is demand-zero paging by the guest kernel, so
    `setup` need not map anything; mapping the working set there keeps those guest faults
    out of the measurement.
    """

    @property
    def spec(self) -> str:
        """Canonical ``name:key=value,…`` with every parameter; parses to an equal workload."""

    def setup(self) -> Ops:
        """Operations that the guest executes once while it boots, before position 0."""

    def fill(self, position: int, ops: Ops) -> None:
        """Write the operations of positions ``position … position + len(ops) - 1`` to `ops`."""
