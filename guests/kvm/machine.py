"""A virtual machine with one vCPU and memory slots: made, run until it reports, closed.

Slots hold guest memory and the guest's own device slot, never anything of this process.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from guests.kvm import abi
from guests.kvm.device import open_device, request
from guests.kvm.stats import Counters

DIRTY_GFN = np.dtype([("flags", np.uint32), ("slot", np.uint32), ("offset", np.uint64)])
"""kvm_dirty_gfn: one entry of the dirty ring."""


@dataclass(frozen=True)
class Slot:
    """A memory slot.

    Attributes:
        number: of it.
        gpa: where the guest sees it.
        size_bytes: of it.
        address: of the memory in this process.
        flags: KVM_MEM_….
    """

    number: int
    gpa: int
    size_bytes: int
    address: int
    flags: int = 0


class VirtualMachine:
    """One, with one vCPU. KVM_RUN is one thread's; all else is asked while it does not run.

    Attributes:
        slots: by number.
        machine_counters, vcpu_counters: KVM's own.
    """

    def __init__(self, *, ring_entries: int = 0) -> None:
        """Make it, without memory.

        Args:
            ring_entries: of the dirty ring; 0 for the bitmaps.

        Raises:
            CannotVirtualize: this machine runs none.
            OSError: it runs no more of them.
        """
        self._open: list[Callable[[], None]] = []
        self.slots: dict[int, Slot] = {}
        self.ring_entries = ring_entries
        self._ring = np.zeros(0, DIRTY_GFN)
        self._device = self._keep(open_device())
        try:
            self._vm = self._keep(request(self._device, abi.KVM_CREATE_VM))
            if ring_entries:
                self.enable(abi.KVM_CAP_DIRTY_LOG_RING, ring_entries * abi.DIRTY_GFN_BYTES)
            self._vcpu = self._keep(request(self._vm, abi.KVM_CREATE_VCPU))
            self.machine_counters = Counters(self._vm)
            self._open.append(self.machine_counters.close)
            self.vcpu_counters = Counters(self._vcpu)
            self._open.append(self.vcpu_counters.close)
            self._map()
            self._set_cpuid()
        except BaseException:
            self.close()
            raise

    def enable(self, cap: int, argument: int) -> None:
        """Enable a capability of the machine.

        Raises:
            OSError: this KVM does not have it, or too late.
        """
        asked = abi.EnableCap(cap=cap)
        asked.args[0] = argument
        request(self._vm, abi.KVM_ENABLE_CAP, asked)

    def extension(self, cap: int) -> int:
        """What KVM answers of a capability; 0 for none."""
        return request(self._vm, abi.KVM_CHECK_EXTENSION, cap)

    def put(self, slot: Slot) -> None:
        """Add a slot, change its flags, or delete it (no bytes).

        Raises:
            OSError: KVM does not take it.
        """
        region = abi.MemoryRegion(slot.number, slot.flags, slot.gpa, slot.size_bytes, slot.address)
        request(self._vm, abi.KVM_SET_USER_MEMORY_REGION, region)
        if slot.size_bytes:
            self.slots[slot.number] = slot
        else:
            del self.slots[slot.number]

    def delete(self, number: int) -> Slot:
        """Delete a slot: its shadows go, and by default those of all slots. Returns it."""
        slot = self.slots[number]
        self.put(replace(slot, size_bytes=0))
        return slot

    def vm_request(self, number: int, argument: int | ctypes.Structure = 0) -> int:
        """An ioctl of the machine."""
        return request(self._vm, number, argument)

    def vcpu_request(self, number: int, argument: int | ctypes.Structure = 0) -> int:
        """An ioctl of the vCPU."""
        return request(self._vcpu, number, argument)

    def run(self) -> int:
        """Run the vCPU until it comes back; returns why, see `abi.Exit`.

        Raises:
            OSError: KVM cannot run it.
        """
        try:
            request(self._vcpu, abi.KVM_RUN)
        except OSError as error:
            if error.errno in {errno.EINTR, errno.EAGAIN}:
                return abi.Exit.INTR
            raise
        return int(self.head.exit_reason)

    def finish_exit(self) -> None:
        """Finish the instruction that the last exit is about, and run no other one.

        Raises:
            OSError: as `run`.
        """
        self.head.immediate_exit = 1
        try:
            self.run()
        finally:
            self.head.immediate_exit = 0

    def close(self) -> None:
        """Give everything back; nothing runs any more."""
        while self._open:
            self._open.pop()()

    @property
    def head(self) -> abi.RunHead:
        """What KVM and we tell each other about the last exit."""
        return self._head

    @property
    def ring(self) -> npt.NDArray[np.void]:
        """The dirty ring: DIRTY_GFN, by place; empty without one."""
        return self._ring

    def _keep(self, descriptor: int) -> int:
        self._open.append(lambda: os.close(descriptor))
        return descriptor

    def _map(self) -> None:
        size = request(self._device, abi.KVM_GET_VCPU_MMAP_SIZE)
        run = mmap.mmap(self._vcpu, size)
        self._head = abi.RunHead.from_buffer(run)
        self._open.append(lambda: self._unmap(run))
        if self.ring_entries:
            ring = mmap.mmap(
                self._vcpu,
                self.ring_entries * abi.DIRTY_GFN_BYTES,
                offset=abi.KVM_DIRTY_LOG_PAGE_OFFSET * mmap.PAGESIZE,
            )
            self._ring = np.frombuffer(ring, DIRTY_GFN)
            self._open.append(lambda: self._unmap(ring))

    def _unmap(self, mapping: mmap.mmap) -> None:
        """A mapping keeps the vCPU, and a descriptor of it; so do views of it."""
        self._head, self._ring = abi.RunHead(), np.zeros(0, DIRTY_GFN)
        mapping.close()

    def _set_cpuid(self) -> None:
        """The guest's processor is this one, as far as KVM gives it."""
        size = abi.CPUID_HEAD_BYTES + abi.MAX_CPUID_ENTRIES * abi.CPUID_ENTRY_BYTES
        table = (ctypes.c_uint32 * (size // 4))(abi.MAX_CPUID_ENTRIES)
        place = ctypes.addressof(table)
        request(self._device, abi.KVM_GET_SUPPORTED_CPUID, place)
        request(self._vcpu, abi.KVM_SET_CPUID2, place)
