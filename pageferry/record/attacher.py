"""A process of its own that makes a userfaultfd inside another process and hands it out.

    python -m pageferry.record.attacher PID SOCKET [until-exec] [all-faults]

It is the only part that ever stops the other process, and it ends as soon as it has let it go. It
is a process of its own so that a recorder that is killed, with its whole group if need be, leaves
nothing half done: this one leads a session of its own and finishes.

All threads stand still meanwhile, for one reason: none of them may see the descriptor, neither as
a number that is taken nor in a child that is forked.

On SOCKET goes one line of JSON: ``stopped_ns`` with the descriptor beside it, or ``error``. With
until-exec a line "seized" goes before it, once the process cannot execute anything unseen. The
program that it executes stands before its first instruction until the other end says to go on, or
has gone; and so does, with another such line, each program that it executes later.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from guests.linux.calls import SYS_USERFAULTFD
from guests.linux.userfaultfd import ALL_FAULTS, USER_FAULTS
from pageferry.record.errors import CannotRecord
from pageferry.record.injection import (
    Injector,
    find_instruction,
    injecting,
    is_instruction,
    waiting_again,
    waits_for_events,
)
from pageferry.record.linux import SYS_CLOSE, pidfd_getfd
from pageferry.record.mappings import Maps
from pageferry.record.tracee import Gone, Registers, Tracee

UNTIL_EXEC = "until-exec"
WITH_ALL_FAULTS = "all-faults"
SEIZED = b"seized"
_STOP_WITHIN_S = 2.0
"""For a thread to come out of the kernel; one that does not, cannot see the descriptor either."""
_GIVE_UP_AFTER_S = 10.0
_BETWEEN_S = 0.002
_POLL_S = 50e-6
_ENDED = "ZX"
_NEVER_IN_USER_SPACE = 0x00000010 | 0x00004000 | 0x00200000
"""PF_IO_WORKER, PF_USER_WORKER, PF_KTHREAD, of <linux/sched.h>."""
_FIRST_BYTES_64_BIT = b"\x7fELF\x02"


def attach(pid: int, answer: socket.socket, flags: int) -> None:
    """Make a userfaultfd inside a process that runs, and hand it out.

    Raises:
        CannotRecord: it cannot be done; says why.
    """
    made, stopped_ns = _made(pid, flags)
    _hand_out(answer, made, stopped_ns)


def attach_after_exec(pid: int, answer: socket.socket, flags: int) -> None:
    """Make a userfaultfd inside each program that a process executes from now on.

    Raises:
        CannotRecord: it cannot be done; says why.
    """
    try:
        tracee = Tracee(pid, until_exec=True)
        answer.sendall(SEIZED + b"\n")
        while True:
            tracee.wait_for_exec()
            _serve_program(tracee, answer, flags)
    except Gone:
        return
    except BrokenPipeError:
        tracee.let_go()
    except PermissionError as error:
        raise _refused(pid, error) from error


def _serve_program(tracee: Tracee, answer: socket.socket, flags: int) -> None:
    """One program that stands before its first instruction."""
    try:
        _check_64_bit(tracee.tid)
        with _Process(tracee.tid, flags) as process:
            made = process.made_by([tracee])
        if made is None:
            raise Gone
        _hand_out(answer, made, 0)
        answer.recv(1)
    finally:
        tracee.go_on()


def _hand_out(answer: socket.socket, made: int, stopped_ns: int) -> None:
    if str(Path(f"/proc/self/fd/{made}").readlink()) != "anon_inode:[userfaultfd]":
        raise CannotRecord("the process made something else than a userfaultfd")
    line = json.dumps({"stopped_ns": stopped_ns}).encode() + b"\n"
    socket.send_fds(answer, [line], [made])
    os.close(made)


def _made(pid: int, flags: int) -> tuple[int, int]:
    """A userfaultfd of a process that runs, and for how long it stood still for it, nanoseconds."""
    _check_64_bit(pid)
    deadline = time.monotonic() + _GIVE_UP_AFTER_S
    with _Process(pid, flags) as process:
        while time.monotonic() < deadline:
            found = _attempt(process)
            if found is not None:
                return found
            time.sleep(_BETWEEN_S)
    raise CannotRecord(
        f"no thread of process {pid} ever stood where a system call could be put in; try again"
    )


class _Process:
    """What is found out about a process before it is stopped, so that it does not stand long."""

    def __init__(self, pid: int, flags: int) -> None:
        """Open it.

        Args:
            pid: of the process.
            flags: of the userfaultfd that it shall make.

        Raises:
            CannotRecord: it has ended, may not be read, or has no system call in its code.
        """
        self.pid, self.flags = pid, flags
        try:
            self.pidfd = os.pidfd_open(pid)
            self.memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            maps = Maps(pid)
        except OSError as error:
            raise _refused(pid, error) from error
        instruction = find_instruction(self.memory, maps.read())
        maps.close()
        if instruction is None:
            raise CannotRecord(f"no system call instruction in the code of process {pid}")
        self.instruction = instruction
        self.has_seccomp = _has_seccomp(pid)

    def made_by(self, threads: list[Tracee]) -> int | None:
        """A userfaultfd of the process, here; nothing of it stays there.

        Args:
            threads: all of them, stopped.

        Returns:
            The descriptor; None when no thread can make a call where it stands.

        Raises:
            CannotRecord: the process cannot make one.
        """
        if not is_instruction(self.memory, self.instruction):
            return None
        for one in threads:
            with suppress(Gone):
                registers = one.registers()
                if one.takes_a_call(registers):
                    with injecting(one, registers, self.instruction) as injector:
                        return self._handed_out(injector)
        return None

    def _handed_out(self, injector: Injector) -> int:
        number = injector.call(SYS_USERFAULTFD, self.flags)
        if number < 0:
            why = os.strerror(-number)
            if -number in (errno.EMFILE, errno.ENFILE):
                why += "; raise its limit of open files (prlimit --nofile)"
            if -number == errno.EPERM and self.flags == ALL_FAULTS:
                why += (
                    " for one that its own system calls wait for; while it is tracked so, let all "
                    "have them: sysctl vm.unprivileged_userfaultfd=1"
                )
            raise CannotRecord(f"process {self.pid} cannot make a userfaultfd: {why}")
        try:
            return pidfd_getfd(self.pidfd, number)
        finally:
            injector.call(SYS_CLOSE, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.pidfd)
        os.close(self.memory)


def _attempt(process: _Process) -> tuple[int, int] | None:
    """One stop of all threads; None when none of them can make a call where it stands."""
    began = time.monotonic_ns()
    threads = _stop_all(process)
    try:
        made = process.made_by([one for one in threads if one.stopped])
    finally:
        for one in threads:
            if one.stopped:
                _go_on(one)
        stood_ns = time.monotonic_ns() - began
        _wait_for_the_rest(threads)
    return None if made is None else (made, stood_ns)


def _stop_all(process: _Process) -> list[Tracee]:
    """Interrupt all threads, those that appear meanwhile as well, and wait until they stand still.

    Raises:
        CannotRecord: it may not be traced, or has ended.
    """
    threads: dict[int, Tracee] = {}
    ended: set[int] = set()
    while new := _threads(process.pid) - set(threads) - ended:
        for tid in new:
            one = _interrupted(process, tid)
            if one is None:
                ended.add(tid)
            else:
                threads[tid] = one
        _wait_until_stopped(threads)
    if not threads:
        raise CannotRecord(f"process {process.pid} has ended")
    return list(threads.values())


def _interrupted(process: _Process, tid: int) -> Tracee | None:
    """A thread that stops as soon as it can; None when it has ended.

    Raises:
        CannotRecord: it may not be traced.
    """
    try:
        one = Tracee(tid, suspend_seccomp=process.has_seccomp)
        one.interrupt()
    except (Gone, ProcessLookupError):
        return None
    except OSError as error:
        if _has_ended(tid):  # the kernel does not permit to trace the dead
            return None
        raise _refused(process.pid, error) from error
    return one


def _threads(pid: int) -> set[int]:
    """Those that run the program: not the kernel's own, and not those that have ended.

    A process that uses KVM, vhost or io_uring has threads that never leave the kernel.
    """
    found = set()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - quick
            state, flags = _state(int(name))
            if state not in _ENDED and not flags & _NEVER_IN_USER_SPACE:
                found.add(int(name))
    return found


def _has_ended(tid: int) -> bool:
    return _state(tid)[0] in _ENDED


def _state(tid: int) -> tuple[str, int]:
    """State and flags of a thread; of one that is gone, that it is dead."""
    try:
        text = Path(f"/proc/{tid}/stat").read_text("utf-8", "replace")
        fields = text.rpartition(") ")[2].split()
        return fields[0], int(fields[6])
    except (OSError, IndexError):
        return "X", 0


def _wait_until_stopped(threads: dict[int, Tracee]) -> None:
    deadline = time.monotonic() + _STOP_WITHIN_S
    while time.monotonic() < deadline:
        for tid, one in list(threads.items()):
            with suppress(Gone):
                one.poll_stopped()
                continue
            del threads[tid]
        if all(one.stopped for one in threads.values()):
            return
        time.sleep(_POLL_S)


def _go_on(one: Tracee) -> None:
    """Let a thread go; a wait for events that our stop ended begins anew."""
    with suppress(Gone):
        registers = _own_registers(one)
        if registers and waits_for_events(registers) and not _has_signals(one.tid):
            one.set_registers(waiting_again(registers))
    one.let_go()


def _own_registers(one: Tracee) -> Registers | None:
    try:
        return one.registers()
    except CannotRecord:
        return None


def _has_signals(tid: int) -> bool:
    """Whether a signal waits for a thread that it does not block."""
    status = _status(tid)
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return bool(pending & ~int(status["SigBlk"], 16))


def _wait_for_the_rest(threads: list[Tracee]) -> None:
    """Threads that were deep in the kernel: our end detaches from them, wherever they are."""
    for one in threads:
        with suppress(Gone):
            if not one.stopped and one.poll_stopped():
                _go_on(one)


def _has_seccomp(pid: int) -> bool:
    with suppress(OSError, KeyError):
        return any(_status(tid).get("Seccomp", "0") != "0" for tid in _threads(pid))
    return False


def _status(tid: int) -> dict[str, str]:
    text = Path(f"/proc/{tid}/status").read_text("utf-8", "replace")
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _check_64_bit(pid: int) -> None:
    with suppress(OSError), Path(f"/proc/{pid}/exe").open("rb") as program:
        first = program.read(len(_FIRST_BYTES_64_BIT))
        if first != _FIRST_BYTES_64_BIT:
            raise CannotRecord(
                f"process {pid} is a 32-bit program, and only 64-bit programs can be recorded"
            )


def _refused(pid: int, error: OSError) -> CannotRecord:
    """Why a process cannot be traced."""
    try:
        status = _status(pid)
    except OSError:
        return CannotRecord(f"process {pid} has ended")
    tracer = status.get("TracerPid", "0")
    if tracer not in ("0", str(os.getpid())):
        return CannotRecord(
            f"process {pid} is traced by process {tracer} (a debugger, strace) already, and only "
            "one can; end that first"
        )
    if status.get("Seccomp", "0") != "0":
        return CannotRecord(
            f"process {pid} filters its system calls (seccomp), and suspending that for the one "
            f"that recording needs is not permitted ({error.strerror}); run as root, outside of "
            "containers"
        )
    return CannotRecord(
        f"process {pid} may not be traced ({error.strerror}); run as root or with CAP_SYS_PTRACE, "
        "or for a process of your own: sysctl kernel.yama.ptrace_scope=0"
    )


def main() -> None:
    """Do what the command line says, and answer on the socket."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)
    pid, number, *rest = sys.argv[1:]
    answer = socket.socket(fileno=int(number))
    with suppress(BrokenPipeError, ConnectionResetError):  # a recorder that was killed
        try:
            way = attach_after_exec if UNTIL_EXEC in rest else attach
            way(int(pid), answer, ALL_FAULTS if WITH_ALL_FAULTS in rest else USER_FAULTS)
        except CannotRecord as error:
            answer.sendall(json.dumps({"error": str(error)}).encode() + b"\n")


if __name__ == "__main__":
    main()
