"""Finding out what a virtual machine writes: KVM's log as a bitmap or a ring, or userfaultfd.

Each tracker is asked by the vCPU's owner alone. A clean says what was written since the last one
and takes write access from just that, each in its way:

    DirtyLog    KVM_GET_DIRTY_LOG gets, clears and write-protects in one call; with `blow` the slot
                is deleted and added again behind it, which drops the shadows of every slot
    ClearLog    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: a clean copies, `clear_log` clears and protects
    DirtyRing   the vCPU notes each page, and stops when the ring is full
    UserFault   write protection of the slot's host mapping: page groups, KVM's own log is off
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from guests.kvm import abi
from guests.kvm.machine import Slot, VirtualMachine
from guests.linux.handler import FaultHandler, HandlerCounts
from guests.linux.handler_state import whole
from guests.linux.userfaultfd import ALL_FAULTS, SYNCHRONOUS, enable, make
from paging_core.config import GroupPolicy
from paging_core.guest import DirtyWords
from paging_core.log_dirty import n_words, words_of
from paging_core.memory import GuestMemory
from paging_core.units import FRAME_BYTES

CLEAR_UNIT_FRAMES = 64
"""KVM_CLEAR_DIRTY_LOG takes whole words of the bitmap."""
_LOGGED = abi.KVM_MEM_LOG_DIRTY_PAGES


class Tracking(Protocol):
    """A way of finding out what was written."""

    def start(self) -> None:
        """From here on nothing is written unseen."""

    def clean(self) -> DirtyWords:
        """What was written since the last clean; a tracker that defers takes nothing back."""

    def peek(self) -> DirtyWords:
        """What a clean would say; changes nothing that anybody could tell."""

    def stop(self) -> None:
        """Nothing is looked at any more."""


def _set_flags(machine: VirtualMachine, number: int, flags: int) -> None:
    held = machine.slots[number]
    if held.flags != flags:
        machine.put(Slot(held.number, held.gpa, held.size_bytes, held.address, flags))


def _get_log(machine: VirtualMachine, number: int) -> DirtyWords:
    words = np.zeros(n_words(machine.slots[number].size_bytes // FRAME_BYTES), np.uint64)
    machine.vm_request(abi.KVM_GET_DIRTY_LOG, abi.DirtyLog(number, 0, words.ctypes.data))
    return words


class DirtyLog:
    """KVM's bitmap, got and cleared in one call."""

    def __init__(self, machine: VirtualMachine, slot: int, *, blow: bool = False) -> None:
        """Nothing is logged yet.

        Args:
            machine: with the slot.
            slot: its number.
            blow: take write access by dropping all shadows instead.
        """
        self._machine, self._slot, self._blow = machine, slot, blow
        self._seen = np.zeros(1, np.uint64)

    def start(self) -> None:
        """See `Tracking`."""
        self._seen = np.zeros(1, np.uint64)
        _set_flags(self._machine, self._slot, _LOGGED)
        self._drop()

    def clean(self) -> DirtyWords:
        """See `Tracking`."""
        words = self._seen | _get_log(self._machine, self._slot)
        self._seen = np.zeros(1, np.uint64)
        self._drop()
        return words

    def peek(self) -> DirtyWords:
        """See `Tracking`. KVM has no way to look only: what it gave and protected is kept here."""
        self._seen = self._seen | _get_log(self._machine, self._slot)
        return self._seen.copy()

    def stop(self) -> None:
        """See `Tracking`. KVM leaves the entries read-only: each heals at its next fault."""
        _set_flags(self._machine, self._slot, 0)

    def _drop(self) -> None:
        if self._blow:
            self._machine.put(self._machine.delete(self._slot))


class ClearLog:
    """KVM's bitmap, copied by a clean and cleared in chunks."""

    def __init__(self, machine: VirtualMachine, slot: int, *, initially_set: bool = False) -> None:
        """Nothing is logged yet.

        Args:
            machine: with the slot; it logs in this way from here on.
            slot: its number.
            initially_set: the log starts full and protects nothing.

        Raises:
            OSError: this KVM cannot.
        """
        self._machine, self._slot = machine, slot
        way = abi.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
        if initially_set:
            way |= abi.KVM_DIRTY_LOG_INITIALLY_SET
        machine.enable(abi.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, way)

    def start(self) -> None:
        """See `Tracking`."""
        _set_flags(self._machine, self._slot, _LOGGED)

    def clean(self) -> DirtyWords:
        """What is in the log, which is not cleared."""
        return _get_log(self._machine, self._slot)

    def peek(self) -> DirtyWords:
        """See `Tracking`."""
        return self.clean()

    def clear_log(self, gfns: npt.NDArray[np.int64]) -> None:
        """Clear and protect frames; only those that are in the log.

        Args:
            gfns: ascending.
        """
        if not len(gfns):
            return
        n_frames = self._machine.slots[self._slot].size_bytes // FRAME_BYTES
        first = int(gfns[0]) & -CLEAR_UNIT_FRAMES
        end = min(n_frames, (int(gfns[-1]) | (CLEAR_UNIT_FRAMES - 1)) + 1)
        words = words_of(gfns - first, end - first)
        self._machine.vm_request(
            abi.KVM_CLEAR_DIRTY_LOG,
            abi.ClearDirtyLog(self._slot, end - first, first, words.ctypes.data),
        )

    def stop(self) -> None:
        """See `DirtyLog.stop`."""
        _set_flags(self._machine, self._slot, 0)


class DirtyRing:
    """KVM's dirty ring, gathered into a bitmap.

    Attributes:
        entries: taken from the ring since it was made.
        full: exits because it was full.
    """

    def __init__(self, machine: VirtualMachine, slot: int) -> None:
        """Nothing is logged yet.

        Args:
            machine: made with a ring.
            slot: its number.
        """
        self._machine, self._slot = machine, slot
        self._at = 0
        self._n_frames = machine.slots[slot].size_bytes // FRAME_BYTES
        self._dirty = np.zeros(self._n_frames, np.bool_)
        self.entries = self.full = 0

    def start(self) -> None:
        """See `Tracking`."""
        self._gather()
        self._dirty[:] = False
        _set_flags(self._machine, self._slot, _LOGGED)

    def clean(self) -> DirtyWords:
        """See `Tracking`."""
        words = self.peek()
        self._dirty[:] = False
        return words

    def peek(self) -> DirtyWords:
        """See `Tracking`."""
        self._gather()
        return words_of(np.flatnonzero(self._dirty), self._n_frames)

    def when_full(self) -> None:
        """KVM_EXIT_DIRTY_RING_FULL: make room."""
        self.full += 1
        self._gather()

    def stop(self) -> None:
        """See `DirtyLog.stop`."""
        self._gather()
        _set_flags(self._machine, self._slot, 0)

    def _gather(self) -> None:
        """Take what is in the ring, in order, and give the places back; KVM protects the pages."""
        ring = self._machine.ring
        order = (self._at + np.arange(len(ring))) % len(ring)
        told = ring["flags"][order] & abi.KVM_DIRTY_GFN_F_DIRTY != 0
        count = len(told) if told.all() else int(np.argmin(told))
        if not count:
            return
        taken = order[:count]
        offsets = ring["offset"][taken].astype(np.int64)
        self._dirty[offsets[ring["slot"][taken] == self._slot]] = True
        ring["flags"][taken] = abi.KVM_DIRTY_GFN_F_RESET
        self._at = (self._at + count) % len(ring)
        self.entries += count
        self._machine.vm_request(abi.KVM_RESET_DIRTY_RINGS)


class UserFault:
    """Write protection of the slot's host mapping by userfaultfd: page groups."""

    def __init__(self, memory: GuestMemory, policy: GroupPolicy, *, populate: bool = True) -> None:
        """Nothing is protected yet.

        Args:
            memory: of the guest, what its slot is over; every frame has been touched.
            policy: of the groups.
            populate: what is opened is made writable in the host's page table as well, so that
                KVM's prefetch can map it, 8 at a time; else each page takes a fault of its own.

        Raises:
            CannotTrack: this kernel gives no such userfaultfd, or not to this user.
        """
        self._memory, self._policy, self._populate = memory, policy, populate
        self._handler = self._made()
        self._fresh = True

    def start(self) -> None:
        """See `Tracking`."""
        if not self._fresh:
            self._handler = self._made()
        self._fresh = False
        self._handler.start()

    def clean(self) -> DirtyWords:
        """See `Tracking`.

        Raises:
            TrackingLost: the handler has ended.
        """
        return self._handler.clean()

    def peek(self) -> DirtyWords:
        """See `Tracking`."""
        return self._handler.peek()

    def stop(self) -> None:
        """See `Tracking`."""
        self._handler.close()

    def counts(self) -> HandlerCounts:
        """What the handler did."""
        return self._handler.counts()

    def _made(self) -> FaultHandler:
        descriptor = make(ALL_FAULTS)
        enable(descriptor, SYNCHRONOUS)
        where = whole(self._memory.frames.ctypes.data, self._memory.n_frames)
        return FaultHandler(descriptor, where, self._policy, populate=self._populate)
