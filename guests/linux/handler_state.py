"""What the fault handler's compiled loop and its owner share: records, ranges, counters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paging_core.config import GroupPolicy
from paging_core.costs import CostTable
from paging_core.kernels.adaptive import MAX_ORDER, REGION_SHIFT, REGION_WORDS
from paging_core.kernels.pointers import Ints
from paging_core.kernels.state import CORE_DTYPE, FRAME_DTYPE, HAP
from paging_core.log_dirty import n_words
from paging_core.units import FRAME_BYTES, FRAME_SHIFT

HISTOGRAM_BINS = 64
"""Bin k counts latencies of 2**(k-1) to below 2**k ns; bin 0 those of 0."""
MESSAGES = 16
"""Read at once; as many faults as threads of the guest wait."""
MESSAGE_WORDS = 4
N_SCRATCH = 16 + MESSAGES * MESSAGE_WORDS

# Orders to the loop.
STOP, CLEAN, PROTECT_ALL = 1, 2, 3

HANDLER_DTYPE = np.dtype(
    [
        # configuration
        ("userfaultfd", np.int64),
        ("orders", np.int64),  # eventfd: an order was put into `order`
        ("answers", np.int64),  # eventfd: it was carried out, or the loop has ended
        ("scratch_at", np.int64),
        ("populate", np.int64),  # make opened pages writable in the page table as well
        # state
        ("order", np.int64),
        ("failed_call", np.int64),  # number of the system call that ended the loop, and its errno
        ("errno", np.int64),
        # counters
        ("messages", np.int64),
        ("fixups", np.int64),  # of these, that made a frame dirty
        ("opened", np.int64),  # neighbours made dirty with them
        ("unmapped", np.int64),  # faults on pages that were gone when they should be opened
        ("fixups_taken", np.int64),  # both as the last clean found them
        ("opened_taken", np.int64),
        ("clean_ns", np.int64),
        ("handled_ns", np.int64),
        ("latency", np.int64, (HISTOGRAM_BINS,)),
    ]
)
"""The loop's own record: descriptors, the order that it is given, counters since it started."""


class HandlerView:
    """Fields of a HANDLER_DTYPE, for type checkers alone."""

    userfaultfd: int
    orders: int
    answers: int
    scratch_at: int
    populate: int
    order: int
    failed_call: int
    errno: int
    messages: int
    fixups: int
    opened: int
    unmapped: int
    fixups_taken: int
    opened_taken: int
    clean_ns: int
    handled_ns: int
    latency: Ints


class TrackedRange(NamedTuple):
    """A run of pages that is tracked, and which frames of the bitmap they are.

    Attributes:
        address: of its first page.
        first: the frame of that page. Groups are aligned by frame.
        frames: so many.
    """

    address: int
    first: int
    frames: int


class GroupState:
    """A dirty bitmap and what decides on groups: the model's own arrays and rules.

    The kernels of `paging_core.kernels` that mark, choose group sizes and learn work on these,
    as on those of a machine under HAP.

    Attributes:
        core: one record of CORE_DTYPE.
        dirty: the log-dirty bitmap, int64 words.
        frames: FRAME_DTYPE, by frame.
        groups: what adaptive groups know, int64 (regions, words).
        awaiting_send: opened frames that the sender will tell about, int64 words.
    """

    def __init__(self, n_frames: int, policy: GroupPolicy, costs: CostTable) -> None:
        """Nothing is dirty.

        Args:
            n_frames: frames of the bitmap.
            policy: of the groups; D bits cannot be seen from here, so `d_bit_filter` is not looked
                at.
            costs: what adaptive groups decide by.
        """
        self.n_frames = n_frames
        self.core: Any = np.zeros(1, CORE_DTYPE)
        self.dirty = np.zeros(n_words(n_frames), np.int64)
        self.frames: npt.NDArray[np.void] = np.zeros(n_frames, FRAME_DTYPE)
        regions = -(-n_frames // (1 << REGION_SHIFT))
        self.groups = np.zeros((regions, REGION_WORDS), np.int64)
        self.awaiting_send = np.zeros(n_words(n_frames), np.int64)
        for name in ("dirty", "frames", "groups", "awaiting_send"):
            self.core[f"{name}_at"] = getattr(self, name).ctypes.data
        self.core["n_frames"] = n_frames
        self.core["paging"] = HAP
        self.core["log"]["enabled"] = 1
        self.core["log"]["dirty_words"] = len(self.dirty)
        self.core["group"]["adaptive"] = policy.adaptive
        self.core["group"]["frames"] = 1 << MAX_ORDER if policy.adaptive else policy.frames
        self.core["group"]["trigger"] = policy.trigger
        self.core["time"]["cost_ps"] = costs.as_picoseconds()


def ranges_array(ranges: list[TrackedRange]) -> npt.NDArray[np.int64]:
    """Ranges as the loop takes them: ascending by address, int64 (k, 3)."""
    return np.array(sorted(ranges), np.int64).reshape(-1, 3)


def whole(address: int, n_frames: int) -> list[TrackedRange]:
    """The one range of a guest whose memory is one mapping."""
    return [TrackedRange(address, 0, n_frames)]


def end_of(one: TrackedRange) -> int:
    """The address behind a range."""
    return one.address + one.frames * FRAME_BYTES


def frame_at_address(one: TrackedRange, address: int) -> int:
    """The frame of an address within a range."""
    return one.first + ((address - one.address) >> FRAME_SHIFT)
