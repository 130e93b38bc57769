"""A virtual machine with the guest's program in it: takes operations, and checks every exit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from guests.kvm import abi
from guests.kvm.machine import Slot, VirtualMachine
from guests.kvm.program import (
    ACCESS_KINDS,
    MAX_LIST_PAGES,
    OWN_ENTRY,
    Control,
    DeviceSlot,
    Report,
    slot_pages,
)
from guests.kvm.registers import first_registers, user_mode
from paging_core.errors import GuestCrashed
from paging_core.memory import GuestMemory
from paging_core.units import FRAME_BYTES, FRAME_SHIFT
from paging_core.workloads.ops import SWITCH, Ops

GUEST_SLOT, DEVICE_SLOT = 0, 1
ONE_BLOCK_LIST_PAGES = 6
"""With the program and the control page: one block of 8 of KVM's prefetch, so one fault."""
_ANEW = "delete it and boot it anew"


class Runner:
    """Runs operations in a virtual machine over a guest's memory. One caller at a time.

    Attributes:
        machine: it.
        device: its device slot.
        roots: L4 tables by process, guest frames.
        when_full: empties the dirty ring; the vCPU runs on afterwards.
    """

    def __init__(
        self,
        memory: GuestMemory,
        roots: list[int],
        *,
        list_pages: int = MAX_LIST_PAGES,
        ring_entries: int = 0,
        notes_va: int = 0,
        n_notes: int = 0,
        registers: abi.Registers | None = None,
    ) -> None:
        """Put memory and program into a machine; the first root is loaded.

        Args:
            memory: of the guest, with its page tables.
            roots: see above.
            list_pages: of the list of operations.
            ring_entries: of KVM's dirty ring; 0 without one.
            notes_va, n_notes: the program's notes, see program.S; 0 for none.
            registers: those with which it goes on; None lets it start.

        Raises:
            CannotVirtualize: this machine runs none.
            GuestCrashed: the guest has something where its program belongs.
        """
        self.memory = memory
        self.roots = roots
        self.when_full: Callable[[], None] = lambda: None
        self._own = GuestMemory(slot_pages(list_pages), "device")
        self._own.populate()
        self.device = DeviceSlot(self._own.words, memory.n_frames)
        self._map_program()
        self.machine = VirtualMachine(ring_entries=ring_entries)
        for number, gpa, held in (
            (GUEST_SLOT, 0, memory),
            (DEVICE_SLOT, self.device.gpa, self._own),
        ):
            size, address = held.n_frames * FRAME_BYTES, held.frames.ctypes.data
            self.machine.put(Slot(number, gpa, size, address))
        self.machine.vcpu_request(
            abi.KVM_SET_SREGS, user_mode(self.machine, roots[0] << FRAME_SHIFT)
        )
        if registers is None:
            registers = first_registers(notes_va, n_notes)
        self.device.control[Control.STEPS] = registers.r12
        self.machine.vcpu_request(abi.KVM_SET_REGS, registers)

    def execute(self, ops: Ops) -> None:
        """Run operations, all of them.

        Args:
            ops: accesses, and switches to another process, which are its host's work.

        Raises:
            GuestCrashed: it did anything but run them and say so.
        """
        for part in _between_switches(ops):
            if len(part) and part["kind"][0] == SWITCH:
                self.load_root(self.roots[int(part["address"][0])])
                continue
            for first in range(0, len(part), self.device.capacity):
                self.device.give(part[first : first + self.device.capacity])
                self.expect(Report.EMPTY)

    def give(self, ops: Ops) -> Report:
        """Give the program operations, `device.capacity` at most, and run until it reports.

        Args:
            ops: accesses alone.

        Raises:
            GuestCrashed: as `execute`; stopped, it reports that.
        """
        _between_switches(ops)
        self.device.give(ops)
        return self.run()

    def expect(self, wanted: Report) -> None:
        """Run until the program reports, and that it must be.

        Raises:
            GuestCrashed: it reports something else.
        """
        found = self.run()
        if found is not wanted:
            raise GuestCrashed(f"the guest reports {found.name} and not {wanted.name}; {_ANEW}")

    def run(self) -> Report:
        """Run until the program reports.

        Raises:
            GuestCrashed: it lost a store, met an operation that there is not, or left its program.
        """
        while (why := self.machine.run()) in {abi.Exit.INTR, abi.Exit.DIRTY_RING_FULL}:
            if why == abi.Exit.DIRTY_RING_FULL:
                self.when_full()
        report = self._report(why)
        if report is Report.LOST:
            raise GuestCrashed(
                "the guest found other data than it had stored last, so a write of it was lost; "
                "please report this: it is a bug"
            )
        if report is Report.UNKNOWN:
            raise GuestCrashed(f"the guest was given an operation that there is not; {_ANEW}")
        return report

    def load_root(self, gfn: int) -> None:
        """Load CR3: the host does it, the program must not."""
        system = abi.SystemRegisters()
        self.machine.vcpu_request(abi.KVM_GET_SREGS, system)
        system.cr3 = gfn << FRAME_SHIFT
        self.machine.vcpu_request(abi.KVM_SET_SREGS, system)

    def registers(self) -> abi.Registers:
        """The vCPU's, with the report that it stopped at finished; it stands still."""
        self.machine.finish_exit()
        found = abi.Registers()
        self.machine.vcpu_request(abi.KVM_GET_REGS, found)
        return found

    @property
    def steps(self) -> int:
        """Operations done, as the program reported last."""
        return int(self.device.control[Control.STEPS])

    @property
    def sum(self) -> int:
        """Over what it read, likewise."""
        return int(self.device.control[Control.SUM])

    def close(self) -> None:
        """Give everything back but the guest's memory."""
        self.machine.close()
        self._own.close()

    def _map_program(self) -> None:
        for root in self.roots:
            found = int(self.memory.words[root, OWN_ENTRY])
            if found not in {0, self.device.root_entry}:
                self._own.close()
                raise GuestCrashed(
                    "the guest has mappings at the addresses of its program, "
                    f"0x{OWN_ENTRY << 39:x}; use another workload or trace"
                )
        for root in self.roots:
            self.memory.words[root, OWN_ENTRY] = self.device.root_entry

    def _report(self, why: int) -> Report:
        head = self.machine.head
        told = int.from_bytes(bytes(head.data)[:4], "little")
        stores_here = head.address == self.device.report_gpa and head.is_write and head.length == 4
        if why == abi.Exit.MMIO and stores_here and told in set(Report):
            return Report(told)
        name = _exit_name(why)
        where = f" at guest address 0x{head.address:x}" if why == abi.Exit.MMIO else ""
        raise GuestCrashed(f"the guest left its program (KVM_EXIT_{name}{where}); {_ANEW}")


def _exit_name(why: int) -> str:
    return abi.Exit(why).name if why in set(abi.Exit) else str(why)


def _between_switches(ops: Ops) -> list[Ops]:
    """Runs of accesses, and each switch by itself, in order.

    Raises:
        GuestCrashed: an operation takes a guest kernel.
    """
    kinds = ops["kind"]
    strange = ~np.isin(kinds, [*ACCESS_KINDS, SWITCH])
    if strange.any():
        raise GuestCrashed(
            f"operation {int(kinds[strange][0])} of the workload takes a guest kernel, which a "
            "virtual machine of this kind does not have; use another workload"
        )
    at = np.flatnonzero(kinds == SWITCH)
    return np.split(ops, np.unique(np.concatenate((at, at + 1))))
