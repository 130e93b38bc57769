"""A virtual machine beside its memory, as bytes: the model's state, and the vCPU's registers.

The program stands at a report whenever it is asked: what it goes on with are its counters. All
general registers travel, and each that says where the program is or what it works on must be just
what the other host would have made it. System registers are the host's own choice (registers.py);
nothing of the FPU and no MSR is ever touched by the program.
"""

from __future__ import annotations

import json

from guests.kvm import abi
from guests.kvm.program import CODE, OWN_VA
from guests.kvm.registers import first_registers
from paging_core.config import GuestConfig
from paging_core.errors import InvalidInput
from paging_core.guest_state import decode_state, encode_state
from paging_core.kernels.state import Records
from paging_core.state_document import integer, members, parse_document

_NAMES = tuple(one[0] for one in abi.Registers._fields_)
_POINTERS = ("r10", "r11", "r14", "r15")
_FLAGS_MAY_DIFFER = 0x8D5
"""OF SF ZF AF PF CF: what arithmetic leaves."""
_SIGNED = 1 << 63
_RESUMES_AT = len(CODE) - 5
"""The program goes on with the jump behind its report: `jmp start`, 5 bytes."""


def encode(config: GuestConfig, vcpu: Records, time_ps: int, registers: abi.Registers) -> bytes:
    """Everything that another host needs, beside the memory."""
    inner = json.loads(encode_state(config, vcpu, time_ps))
    inner["registers"] = {name: _as_signed(getattr(registers, name)) for name in _NAMES}
    return json.dumps(inner, sort_keys=True, separators=(",", ":")).encode()


def decode(state: bytes) -> tuple[GuestConfig, Records, int, abi.Registers]:
    """The arguments of `encode`; the registers are to be checked.

    Args:
        state: what the other host sent; it can be anything.

    Raises:
        InvalidInput: not such a state.
    """
    document = parse_document(state)
    if not isinstance(document, dict) or "registers" not in document:
        raise InvalidInput("a guest state without a virtual machine's registers; migrate it again")
    told = members(document.pop("registers"), "registers", _NAMES)
    rest = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    config, vcpu, time_ps = decode_state(rest)
    registers = abi.Registers(
        **{name: integer(told[name], f"registers.{name}") % (1 << 64) for name in _NAMES}
    )
    return config, vcpu, time_ps, registers


def check_registers(found: abi.Registers, notes_va: int, n_notes: int) -> None:
    """Whether the program can have these.

    Args:
        found: that came.
        notes_va, n_notes: the program's notes, as they are for such a guest.

    Raises:
        InvalidInput: it cannot.
    """
    own = first_registers(notes_va, n_notes)
    for name in _POINTERS:
        if getattr(found, name) != getattr(own, name):
            raise InvalidInput(f"guest state in which {name} points elsewhere; migrate it again")
    if found.rip not in {OWN_VA, OWN_VA + _RESUMES_AT}:
        raise InvalidInput("guest state of a program that is elsewhere; migrate it again")
    if (found.rflags ^ own.rflags) & ~_FLAGS_MAY_DIFFER:
        raise InvalidInput("guest state with flags that no program sets; migrate it again")


def _as_signed(value: int) -> int:
    return value - (1 << 64) if value >= _SIGNED else value
