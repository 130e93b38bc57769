"""The guest's program: the bytes of program.S, and where it and what it works on lie.

The program and its list of operations are in a memory slot of their own, the *device slot*, which
belongs to the guest as a device's memory does: it is not tracked and does not migrate. The host
makes it anew from the guest's position wherever the guest runs, so nothing that arrives is ever
executed. Page by page:

    0               the program
    1               the control page
    2 …             the list of operations
    the last three  page tables that map these, below one entry of each of the guest's roots

The first eight pages are one block of 8 of KVM's prefetch.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from paging_core.units import FRAME_BYTES, FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads.ops import IDLE, OP_DTYPE, READ, REWRITE, WRITE, Ops

CODE = bytes.fromhex(
    "498b7608498b7e104839fe0f84aa00000049833e000f85a7000000488b1e0fb6461683f8020f87840000004d"
    "85db754685c07512488b1349d1c54901d549ffc44883c618ebc20fb74e1483f8017519488b56084d85db754e"
    "48891348ffc24883c308ffc975f2ebd548830b004883c308ffc975f4ebc74989d949c1e90c4d21d149c1e104"
    "4d01d94d8b014c89c24831da48c1ea0c759a498b10493951087491b803000000eb2149891949895108eba983"
    "f8087489b804000000eb0cb801000000eb05b8020000004d8966184d896e20418907e929ffffff"
)
"""What `as program.S` and `objcopy -O binary` make of it."""

OWN_ENTRY = 200
"""The entry of each root below which the device slot is mapped: no workload has addresses there."""
OWN_VA = OWN_ENTRY << 39
CONTROL_PAGE, LIST_PAGE = 1, 2
REPORT_PAGE = WORDS_PER_FRAME - 8
"""Of the virtual pages from OWN_VA on; nothing lies behind it. In a block of 8 of its own."""
N_TABLES = 3
MAX_LIST_PAGES = REPORT_PAGE - 8 - LIST_PAGE
OPERATION_BYTES = OP_DTYPE.itemsize
ACCESS_KINDS = frozenset({READ, WRITE, REWRITE, IDLE})
"""Kinds of operation that the program executes itself."""

PRESENT, WRITABLE, USER, ACCESSED, DIRTY = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6
OWN_FLAGS = PRESENT | WRITABLE | USER | ACCESSED | DIRTY
_GIB_FRAMES = 1 << 18


class Report(IntEnum):
    """What the program stores to the report page."""

    EMPTY = 1
    STOPPED = 2
    LOST = 3
    UNKNOWN = 4


class Control(IntEnum):
    """Words of the control page."""

    STOP = 0
    FIRST = 1
    END = 2
    STEPS = 3
    SUM = 4


class DeviceSlot:
    """The device slot's content, over pages that the caller has.

    Attributes:
        words: it, int64 (pages, 512).
        gpa: its guest-physical address: behind all guest memory.
        report_gpa: that nothing is behind.
        root_entry: what each root of the guest holds at OWN_ENTRY.
        capacity: operations that the list holds.
    """

    def __init__(self, words: npt.NDArray[np.int64], n_frames: int) -> None:
        """Lay out program, control page and tables; the list is empty.

        Args:
            words: zeros, `slot_pages` of them.
            n_frames: of guest memory.
        """
        self.words = words
        list_pages = len(words) - LIST_PAGE - N_TABLES
        self.capacity = list_pages * FRAME_BYTES // OPERATION_BYTES
        first = device_frame(n_frames)
        self.gpa = first << FRAME_SHIFT
        self.report_gpa = (first + WORDS_PER_FRAME) << FRAME_SHIFT
        words[0].view(np.uint8)[: len(CODE)] = np.frombuffer(CODE, np.uint8)
        l1, l2, l3 = (len(words) - k for k in (1, 2, 3))
        words[l1, : LIST_PAGE + list_pages] = (
            (np.arange(LIST_PAGE + list_pages) + first) << FRAME_SHIFT
        ) | OWN_FLAGS
        words[l1, REPORT_PAGE] = self.report_gpa | OWN_FLAGS
        words[l2, 0] = ((first + l1) << FRAME_SHIFT) | OWN_FLAGS
        words[l3, 0] = ((first + l2) << FRAME_SHIFT) | OWN_FLAGS
        self.root_entry = ((first + l3) << FRAME_SHIFT) | OWN_FLAGS
        self._list = words[LIST_PAGE : LIST_PAGE + list_pages].reshape(-1).view(np.uint8)
        self.give(np.zeros(0, OP_DTYPE))

    def give(self, ops: Ops) -> None:
        """Lay operations into the list, for when the program asks next.

        Stores that would go beyond the end of a page are cut there, as the model cuts them.

        Args:
            ops: of ACCESS_KINDS, `capacity` of them at most.
        """
        laid = self._list[: len(ops) * OPERATION_BYTES].view(OP_DTYPE)
        laid[:] = ops
        room = WORDS_PER_FRAME - ((laid["address"] >> 3) & (WORDS_PER_FRAME - 1))
        laid["words"] = np.clip(laid["words"], 1, room)
        first = OWN_VA + LIST_PAGE * FRAME_BYTES
        self.control[Control.FIRST] = first
        self.control[Control.END] = first + len(ops) * OPERATION_BYTES

    @property
    def control(self) -> npt.NDArray[np.int64]:
        """The words of the control page; the guest can store anything to it."""
        page: npt.NDArray[np.int64] = self.words[CONTROL_PAGE]
        return page


def slot_pages(list_pages: int) -> int:
    """Pages of a device slot with a list of so many."""
    return LIST_PAGE + list_pages + N_TABLES


def device_frame(n_frames: int) -> int:
    """The first frame of the device slot of a guest with so many: a whole GiB behind them."""
    return (-(-n_frames // _GIB_FRAMES) + 1) * _GIB_FRAMES
