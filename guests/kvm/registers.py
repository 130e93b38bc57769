"""The vCPU's registers for a program in user mode: long mode, CPL 3, from the first instruction.

CR0 and EFER as Linux has them; no interrupt, no kernel, no task: an exception is a shutdown. Under
KVM without EPT or NPT user mode runs natively, while a guest kernel's code may be emulated.
"""

from __future__ import annotations

from guests.kvm import abi
from guests.kvm.machine import VirtualMachine
from guests.kvm.program import CONTROL_PAGE, OWN_VA, REPORT_PAGE
from paging_core.units import FRAME_SHIFT

CR0 = 0x8005_0033
"""PE MP ET NE WP AM PG."""
CR4 = 1 << 5
"""PAE."""
EFER = 0xD01
"""SCE LME LMA NX."""
RFLAGS = 0x202
_CODE_SELECTOR, _DATA_SELECTOR = 0x33, 0x2B
_BUSY_TASK = 11


def user_mode(machine: VirtualMachine, cr3: int) -> abi.SystemRegisters:
    """The system registers of such a program.

    Args:
        machine: whose own ones the rest is taken from.
        cr3: guest-physical address of its L4 table.
    """
    system = abi.SystemRegisters()
    machine.vcpu_request(abi.KVM_GET_SREGS, system)
    system.cr0, system.cr4, system.efer, system.cr3 = CR0, CR4, EFER, cr3
    flat = {"limit": 0xFFFFF, "dpl": 3, "present": 1, "s": 1, "g": 1}
    system.cs = abi.Segment(selector=_CODE_SELECTOR, type=0xB, l=1, **flat)
    data = abi.Segment(selector=_DATA_SELECTOR, type=0x3, db=1, **flat)
    for name in ("ds", "es", "fs", "gs", "ss"):
        setattr(system, name, data)
    system.ldt = abi.Segment(unusable=1)
    system.tr = abi.Segment(type=_BUSY_TASK, present=1)
    return system


def first_registers(notes_va: int = 0, n_notes: int = 0) -> abi.Registers:
    """Those with which the program starts.

    Args:
        notes_va: where its notes are; 0 for none.
        n_notes: how many; a power of two.
    """
    return abi.Registers(
        rip=OWN_VA,
        rflags=RFLAGS,
        r14=OWN_VA + (CONTROL_PAGE << FRAME_SHIFT),
        r15=OWN_VA + (REPORT_PAGE << FRAME_SHIFT),
        r11=notes_va,
        r10=max(0, n_notes - 1),
    )
