"""System calls that a stopped thread makes for us.

No byte of the process is changed for it. The instruction is one that is there already, in the vDSO
or in any of its code; the thread's registers are set to it, and set back afterwards.

While the call is made, all signals of the thread are blocked, so that none is delivered to where
the program never was. They stay pending and come when the thread is let go.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pageferry.record.mappings import MapEntry
from pageferry.record.tracee import Registers, Tracee

_SYSCALL_INSTRUCTION = b"\x0f\x05"
_ALL_SIGNALS = 2**64 - 1
_CHUNK_BYTES = 1 << 20
_NO_CALL = 2**64 - 1
"""In orig_rax: the thread is in no system call, so there is none to restart."""

_EPOLL_WAITS = frozenset({232, 281, 441})
"""epoll_wait, epoll_pwait, epoll_pwait2: the kernel lets a stop end them with EINTR."""
_EINTR = 2**64 - errno.EINTR


class Injector(NamedTuple):
    """What system calls are put in with.

    Attributes:
        tracee: the stopped thread that makes them.
        instruction: address of a system call instruction in its process.
        registers: what the thread had, and gets back.
    """

    tracee: Tracee
    instruction: int
    registers: Registers

    def call(self, number: int, *arguments: int) -> int:
        """Have the thread make a system call.

        Returns:
            What the kernel answers: negative is an error number.

        Raises:
            Gone: it has ended.
        """
        values = self.registers.copy()
        values.rip, values.rax, values.orig_rax = self.instruction, number, _NO_CALL
        given = [*arguments, 0, 0, 0, 0, 0, 0][:6]
        for name, one in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), given, strict=True):
            setattr(values, name, one)
        self.tracee.set_registers(values)
        self.tracee.run_to_syscall_stop()
        self.tracee.run_to_syscall_stop()
        answer: int = self.tracee.registers().rax
        self.tracee.back_to_interrupted()
        return answer - 2**64 if answer >= 2**63 else answer


@contextmanager
def injecting(tracee: Tracee, registers: Registers, instruction: int) -> Iterator[Injector]:
    """Put system calls into a stopped thread; behind the block it is as it was.

    Args:
        tracee: stopped, and `Tracee.takes_a_call`.
        registers: its own.
        instruction: address of a system call instruction in its process.

    Raises:
        Gone: it has ended.
    """
    mask = tracee.signal_mask()
    tracee.set_signal_mask(_ALL_SIGNALS)
    try:
        yield Injector(tracee, instruction, registers)
    finally:
        tracee.set_registers(registers)
        tracee.set_signal_mask(mask)


def waits_for_events(registers: Registers) -> bool:
    """Whether our stop ended a wait for events with EINTR, which the program would see."""
    return registers.orig_rax in _EPOLL_WAITS and registers.rax == _EINTR


def waiting_again(registers: Registers) -> Registers:
    """Registers with which such a wait begins anew."""
    again = registers.copy()
    again.rip -= len(_SYSCALL_INSTRUCTION)
    again.rax, again.orig_rax = registers.orig_rax, _NO_CALL
    return again


def is_instruction(memory: int, address: int) -> bool:
    """Whether a system call instruction stands at an address of a process's open memory."""
    try:
        return os.pread(memory, len(_SYSCALL_INSTRUCTION), address) == _SYSCALL_INSTRUCTION
    except OSError:
        return False


def find_instruction(memory: int, entries: list[MapEntry]) -> int | None:
    """The address of a system call instruction in a process; None when there is none.

    Args:
        memory: its open /proc/PID/mem.
        entries: its mappings. The vDSO comes first: it is small, and no program changes it.
    """
    executable = [one for one in entries if one.executable and one.name != "[vsyscall]"]
    for entry in sorted(executable, key=lambda one: one.name != "[vdso]"):
        for start in range(entry.start, entry.end, _CHUNK_BYTES):
            # One more byte: the instruction may lie across two chunks.
            length = min(_CHUNK_BYTES + 1, entry.end - start)
            try:
                at = os.pread(memory, length, start).find(_SYSCALL_INSTRUCTION)
            except OSError:
                break  # a file that was cut shorter than its mapping
            if at >= 0:
                return start + at
    return None
