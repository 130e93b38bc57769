"""The guest as its boot loader leaves it: kernel tables, reference counts, one process.

frame 0          reserved: the zero page
1 …              16-bit reference count of every frame
then             the kernel's L3 table and its L2 tables: a direct map of all guest
                 memory in 2 MiB superpages (4 KiB pages for an odd tail), shared by
                 every address space through L4 slot 256
then             the L4 table of process 0
from there on    free frames, filled as `MemoryFill` says
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paging_core.config import GuestConfig, MemoryFill
from paging_core.errors import GuestOutOfMemory
from paging_core.kernels.content import FILL_MIXED, FILL_RANDOM, FILL_ZERO, fill_frames
from paging_core.kernels.guest_frames import COUNTS_FRAME
from paging_core.kernels.guest_kernel import KERNEL_SLOT
from paging_core.kernels.state import PRESENT, SUPERPAGE, WRITABLE
from paging_core.machine import Machine
from paging_core.memory import Words
from paging_core.units import FRAME_SHIFT

KERNEL_ENTRY = PRESENT | WRITABLE
"""Flags of every entry of the kernel's tables, SUPERPAGE aside."""
_COUNTS_PER_FRAME = 2048
_STRIDE_FRAMES = 8192
"""Filled between two checks whether the guest is still wanted: 32 MiB."""
_FILL_MODES = {
    MemoryFill.ZERO: FILL_ZERO,
    MemoryFill.MIXED: FILL_MIXED,
    MemoryFill.RANDOM: FILL_RANDOM,
}


@dataclass(frozen=True)
class Layout:
    """Where the guest's first structures lie; a matter of its size alone.

    Attributes:
        n_frames: frames of the guest.
    """

    n_frames: int

    @property
    def kernel_table(self) -> int:
        """The kernel's L3 table; the tables below it follow."""
        return COUNTS_FRAME + -(-self.n_frames // _COUNTS_PER_FRAME)

    @property
    def root(self) -> int:
        """The L4 table of process 0."""
        return self.kernel_table + 1 + self._l2_tables + (1 if self.n_frames % 512 else 0)

    @property
    def first_frame(self) -> int:
        """The first frame that the guest's kernel hands out."""
        return self.root + 1

    @property
    def _l2_tables(self) -> int:
        return -(-self.n_frames // 2**18)

    def direct_map(self) -> Words:
        """The kernel's tables, from `kernel_table` to before `root`: int64, shape (k, 512)."""
        tables = np.zeros((self.root - self.kernel_table, 512), np.int64)
        whole, below = self.n_frames // 512, self.kernel_table + 1
        l2 = tables[1 : 1 + self._l2_tables].reshape(-1)
        tables[0, : self._l2_tables] = _entries(np.arange(below, below + self._l2_tables))
        l2[:whole] = _entries(np.arange(whole) * 512) | SUPERPAGE
        if self.n_frames % 512:
            l2[whole] = _entries(np.array([self.root - 1]))[0]
            tables[-1, : self.n_frames % 512] = _entries(np.arange(whole * 512, self.n_frames))
        return tables

    def counts(self, memory: Words) -> npt.NDArray[np.uint16]:
        """The reference counts where they lie in guest memory: uint16, shape (n_frames,)."""
        return memory[COUNTS_FRAME:].reshape(-1).view(np.uint16)[: self.n_frames]


def _entries(frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (frames << FRAME_SHIFT) | KERNEL_ENTRY


def lay_out(
    machine: Machine, config: GuestConfig, look_up: Callable[[], None] = lambda: None
) -> None:
    """Write the guest's first structures straight into its memory, and set its registers.

    Args:
        machine: of the guest.
        config: what it is made of.
        look_up: called now and then; what it raises ends it.

    Raises:
        GuestOutOfMemory: they leave no room for anything else.
    """
    n = config.n_frames
    layout = Layout(n)
    root, first = layout.root, layout.first_frame
    if root + 16 > n:
        raise GuestOutOfMemory(f"{n} frames leave no room beside the guest's own tables; use more")
    mode = _FILL_MODES[config.fill]
    if mode != FILL_ZERO:
        for at in range(first, n, _STRIDE_FRAMES):
            look_up()
            fill_frames(machine.memory[: at + _STRIDE_FRAMES], at, mode, config.seed)
    fresh = int(machine.core["fresh_bits"][0])
    tables = layout.direct_map()
    machine.memory[layout.kernel_table : root] = np.where(tables, tables | fresh, 0)
    kernel = (layout.kernel_table << FRAME_SHIFT) | KERNEL_ENTRY | fresh
    machine.memory[root, KERNEL_SLOT] = kernel
    layout.counts(machine.memory)[:first] = 1
    vcpu = machine.core["vcpu"]
    vcpu["kernel_table"] = layout.kernel_table
    vcpu["first_frame"] = vcpu["alloc_hint"] = first
    vcpu["free_frames"] = n - first
    vcpu["roots"][0, 0] = root
    vcpu["cr3"] = root
