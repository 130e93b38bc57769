"""One thread of another process, stopped and let go by ptrace.

A thread is *seized*, which neither stops it nor sends it a signal, and then interrupted. It stops
at the border to user space, in the kernel, at a moment at which its registers are complete. When it
is let go, the kernel looks again whether an interrupted system call has to be restarted.

Source of the numbers: Linux, include/uapi/linux/ptrace.h and arch/x86/include/asm/user_64.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path

from pageferry.record.errors import CannotRecord
from pageferry.record.linux import ptrace

_CONT, _GETREGS, _SETREGS, _DETACH, _SYSCALL = 7, 12, 13, 17, 24
_SEIZE, _INTERRUPT, _LISTEN = 0x4206, 0x4207, 0x4208
_GETREGSET, _GETSIGMASK, _SETSIGMASK = 0x4204, 0x420A, 0x420B
_GET_RSEQ, _GET_DISPATCH = 0x420F, 0x4211
_O_TRACESYSGOOD, _O_TRACEEXEC, _O_SUSPEND_SECCOMP = 1 << 0, 1 << 4, 1 << 21
_NT_PRSTATUS = 1
EVENT_EXEC, EVENT_STOP = 4, 128
_WALL = 0x40000000
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_LONG_MODE_CS = 0x33
_USER_TOP = 1 << 47
_POLL_S = 20e-6
_WITHIN_S = 5.0


class Registers(ctypes.Structure):
    """The general registers of a thread, `struct user_regs_struct`."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
            "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base",
            "ds", "es", "fs", "gs",
        )
    ]  # fmt: skip

    def copy(self) -> Registers:
        """The same once more."""
        return Registers.from_buffer_copy(self)


class Gone(Exception):
    """The thread has ended."""


class Tracee:
    """A seized thread.

    Attributes:
        tid: its id.
        stopped: whether it stands still and takes requests.
        stop_signal: of a process that is stopped as a whole (SIGSTOP, Ctrl-Z), else SIGTRAP.
    """

    def __init__(
        self, tid: int, *, suspend_seccomp: bool = False, until_exec: bool = False
    ) -> None:
        """Seize it; it goes on.

        Args:
            tid: the thread.
            suspend_seccomp: its seccomp filters do not apply while it is traced.
            until_exec: it stops once it has executed a program.

        Raises:
            OSError: there is no such thread, or it may not be traced.
        """
        self.tid = tid
        self.stopped = False
        self.stop_signal = int(signal.SIGTRAP)
        options = _O_TRACESYSGOOD
        options |= _O_SUSPEND_SECCOMP if suspend_seccomp else 0
        options |= _O_TRACEEXEC if until_exec else 0
        ptrace(_SEIZE, tid, 0, options)

    def interrupt(self) -> None:
        """Have it stop before it goes on in user space; `poll_stopped` says when it has.

        Raises:
            Gone: it has ended.
        """
        self._request(_INTERRUPT)

    def poll_stopped(self) -> bool:
        """Whether it has stopped where it was interrupted; passes on the signals on the way.

        Raises:
            Gone: it has ended.
        """
        while not self.stopped:
            status = self._status(os.WNOHANG)
            if status is None:
                return False
            if status >> 16 == EVENT_STOP:
                self.stopped, self.stop_signal = True, os.WSTOPSIG(status)
            else:
                self._pass_on(status)
        return True

    def wait_for_exec(self) -> None:
        """Wait until it has executed a program, and stop it before the first instruction.

        Raises:
            Gone: it has ended before.
        """
        while (status := self._status(0) or 0) >> 16 != EVENT_EXEC:
            if status >> 16 == EVENT_STOP and os.WSTOPSIG(status) != signal.SIGTRAP:
                self._request(_LISTEN)  # Ctrl-Z: it stays stopped until SIGCONT
            else:
                self._request(_CONT, data=os.WSTOPSIG(status) if status >> 16 == 0 else 0)
        self.interrupt()
        self._request(_CONT)
        self._wait_until_stopped()

    def go_on(self) -> None:
        """Let a stopped thread go on, seized as it is.

        Raises:
            Gone: it has ended.
        """
        self.stopped = False
        self._request(_CONT)

    def let_go(self) -> None:
        """Detach from a stopped thread: it goes on as if nothing had been."""
        with suppress(Gone):
            self._request(_DETACH)
        self.stopped = False

    def registers(self) -> Registers:
        """Of the stopped thread.

        Raises:
            Gone: it has ended.
            CannotRecord: it runs 32-bit code.
        """
        found = Registers()
        buffer = _IoVec(ctypes.addressof(found), ctypes.sizeof(found))
        self._request(_GETREGSET, _NT_PRSTATUS, ctypes.byref(buffer))
        if buffer.length != ctypes.sizeof(found) or found.cs != _LONG_MODE_CS:
            raise CannotRecord(
                f"thread {self.tid} runs 32-bit code, and only 64-bit programs can be recorded"
            )
        return found

    def set_registers(self, values: Registers) -> None:
        """Give the stopped thread other registers.

        Raises:
            Gone: it has ended.
        """
        self._request(_SETREGS, data=ctypes.byref(values))

    def signal_mask(self) -> int:
        """Of the stopped thread: bit n - 1 blocks signal n."""
        mask = ctypes.c_uint64()
        self._request(_GETSIGMASK, ctypes.sizeof(mask), ctypes.byref(mask))
        return mask.value

    def set_signal_mask(self, mask: int) -> None:
        """Give the stopped thread another one."""
        value = ctypes.c_uint64(mask)
        self._request(_SETSIGMASK, ctypes.sizeof(value), ctypes.byref(value))

    def run_to_syscall_stop(self) -> None:
        """Let it run to where the next system call begins, or to where this one ends.

        Raises:
            Gone: it has ended.
            CannotRecord: it does not get there; it stands where it was interrupted.
        """
        self._request(_SYSCALL)
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            status = self._status(os.WNOHANG)
            if status is None:
                time.sleep(_POLL_S)
                continue
            if os.WSTOPSIG(status) == _SYSCALL_STOP:
                return
            # All its signals are blocked, so it is the stop of the process as a whole, which
            # takes effect again when the thread is let go.
            self._request(_SYSCALL)
        self.interrupt()
        self._wait_until_stopped()
        raise CannotRecord(f"thread {self.tid} makes no system call; try again")

    def back_to_interrupted(self) -> None:
        """From the end of a system call to where an interrupted thread stands.

        Only from there does the kernel restart the system call that was interrupted first.
        """
        self.interrupt()
        self._request(_CONT)
        self._wait_until_stopped()

    def takes_a_call(self, registers: Registers) -> bool:
        """Whether a system call may be put in where it stands now.

        Not in the kernel's vsyscall page; not in a restartable sequence (rseq), which the kernel
        would take for left; not where system calls are dispatched to a handler of the program.
        """
        return (
            registers.rip < _USER_TOP
            and not self._in_rseq(registers.rip)
            and not self._dispatches_calls()
        )

    def _wait_until_stopped(self) -> None:
        self.stopped = False
        while not self.poll_stopped():
            time.sleep(_POLL_S)

    def _in_rseq(self, rip: int) -> bool:
        answer = (ctypes.c_uint64 * 3)()
        with suppress(OSError):
            ptrace(_GET_RSEQ, self.tid, ctypes.sizeof(answer), ctypes.byref(answer))
        if not answer[0]:
            return False
        with suppress(OSError):
            section = _word(self.tid, answer[0] + 8)
            start, length = (_word(self.tid, section + at) for at in (8, 16)) if section else (0, 0)
            return start <= rip < start + length
        return True  # nobody knows

    def _dispatches_calls(self) -> bool:
        answer = (ctypes.c_uint64 * 4)()
        with suppress(OSError):
            ptrace(_GET_DISPATCH, self.tid, ctypes.sizeof(answer), ctypes.byref(answer))
        return answer[0] != 0

    def _pass_on(self, status: int) -> None:
        """Let it go on from a stop that is not the one that was asked for."""
        signum = os.WSTOPSIG(status) if status >> 16 == 0 else 0
        # Any stop uses the interruption up.
        self.interrupt()
        self._request(_CONT, data=0 if signum == _SYSCALL_STOP else signum)

    def _status(self, options: int) -> int | None:
        try:
            tid, status = os.waitpid(self.tid, _WALL | options)
        except ChildProcessError as error:
            raise Gone from error
        if tid == 0:
            return None
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            raise Gone
        return status

    def _request(self, request: int, address: int = 0, data: object = 0) -> None:
        try:
            ptrace(request, self.tid, address, data)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise Gone from error
            raise


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def _word(tid: int, address: int) -> int:
    with Path(f"/proc/{tid}/mem").open("rb", buffering=0) as memory:
        value: int = struct.unpack("Q", os.pread(memory.fileno(), 8, address))[0]
    return value
