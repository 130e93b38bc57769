"""The guest as its boot loader leaves it: kernel tables, reference counts, one process.

frame 0          reserved (never mapped)
1 …              16-bit reference count of every frame
then             the kernel's L3 table and its L2 tables: a direct map of all guest
                 memory in 2 MiB superpages (4 KiB pages for an odd tail), shared by
                 every address space through L4 slot 256
then             the L4 table of process 0
from there on    free frames, filled as `MemoryFill` says
"""

from __future__ import annotations

import numpy as np

from paging_core.config import GuestConfig, MemoryFill
from paging_core.errors import GuestOutOfMemory
from paging_core.kernels.content import FILL_MIXED, FILL_RANDOM, FILL_ZERO, fill_frames
from paging_core.kernels.guest_frames import COUNTS_FRAME
from paging_core.kernels.guest_kernel import KERNEL_SLOT
from paging_core.kernels.state import PRESENT, SUPERPAGE, WRITABLE
from paging_core.machine import Machine

_KERNEL = PRESENT | WRITABLE
_COUNTS_PER_FRAME = 2048
_FILL_MODES = {
    MemoryFill.ZERO: FILL_ZERO,
    MemoryFill.MIXED: FILL_MIXED,
    MemoryFill.RANDOM: FILL_RANDOM,
}


def lay_out(machine: Machine, config: GuestConfig) -> None:
    """Write the guest's first structures straight into its memory, and set its registers.

    Raises:
        GuestOutOfMemory: they leave no room for anything else.
    """
    n = config.n_frames
    counts = -(-n // _COUNTS_PER_FRAME)
    l3 = COUNTS_FRAME + counts
    l2_tables = -(-n // 2**18)
    root = l3 + 1 + l2_tables + (1 if n % 512 else 0)
    if root + 16 > n:
        raise GuestOutOfMemory(f"{n} frames leave no room beside the guest's own tables; use more")
    mode = _FILL_MODES[config.fill]
    if mode != FILL_ZERO:
        fill_frames(machine.memory, root + 1, mode, config.seed)
    _direct_map(machine, l3, n)
    machine.memory[root, KERNEL_SLOT] = (l3 << 12) | _KERNEL
    _count_reserved(machine, root + 1)
    vcpu = machine.core["vcpu"]
    vcpu["kernel_table"] = l3
    vcpu["first_frame"] = vcpu["alloc_hint"] = root + 1
    vcpu["free_frames"] = n - root - 1
    vcpu["roots"][0, 0] = root
    vcpu["cr3"] = root


def _direct_map(machine: Machine, l3: int, n: int) -> None:
    memory = machine.memory
    whole = n // 512
    l2_tables = -(-n // 2**18)
    memory[l3, :l2_tables] = (np.arange(l3 + 1, l3 + 1 + l2_tables) << 12) | _KERNEL
    l2 = memory[l3 + 1 : l3 + 1 + l2_tables].reshape(-1)
    l2[:whole] = (np.arange(whole) << 21) | _KERNEL | SUPERPAGE
    if n % 512:
        tail = l3 + 1 + l2_tables
        l2[whole] = (tail << 12) | _KERNEL
        memory[tail, : n % 512] = (np.arange(whole * 512, n) << 12) | _KERNEL


def _count_reserved(machine: Machine, end: int) -> None:
    counts = machine.memory[COUNTS_FRAME:].reshape(-1).view(np.uint16)
    counts[:end] = 1
