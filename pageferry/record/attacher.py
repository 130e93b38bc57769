"""A process of its own that makes a userfaultfd inside another process and hands it out.

    python -m pageferry.record.attacher PID SOCKET [until-exec]

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

from pageferry.record.errors import CannotRecord
from pageferry.record.injection import (
    Injector,
    find_instruction,
    injecting,
    waiting_again,
    waits_for_events,
)
from pageferry.record.linux import SYS_CLOSE, SYS_USERFAULTFD, pidfd_getfd
from pageferry.record.mappings import Maps
from pageferry.record.tracee import Gone, Registers, Tracee
from pageferry.record.userfaultfd import MAKE_FLAGS

UNTIL_EXEC = "until-exec"
SEIZED = b"seized"
_STOP_WITHIN_S = 2.0
"""For a thread to come out of the kernel; one that does not, cannot see the descriptor either."""
_ATTEMPTS = 50
_BETWEEN_S = 0.002
_POLL_S = 50e-6
_FIRST_BYTES_64_BIT = b"\x7fELF\x02"


def attach(pid: int, answer: socket.socket) -> None:
    """Make a userfaultfd inside a process that runs, and hand it out.

    Raises:
        CannotRecord: it cannot be done; says why.
    """
    made, stopped_ns = _made(pid)
    _hand_out(answer, made, stopped_ns)


def attach_after_exec(pid: int, answer: socket.socket) -> None:
    """Make a userfaultfd inside each program that a process executes from now on.

    Raises:
        CannotRecord: it cannot be done; says why.
    """
    try:
        tracee = Tracee(pid, until_exec=True)
        answer.sendall(SEIZED + b"\n")
        while True:
            tracee.wait_for_exec()
            _serve_program(tracee, answer)
    except Gone:
        return
    except BrokenPipeError:
        tracee.let_go()
    except PermissionError as error:
        raise _refused(pid, error) from error


def _serve_program(tracee: Tracee, answer: socket.socket) -> None:
    """One program that stands before its first instruction."""
    try:
        _check_64_bit(tracee.tid)
        made = _made_in(tracee.tid, [tracee])
        if made is None:
            raise Gone
        _hand_out(answer, made, 0)
        answer.recv(1)
    finally:
        tracee.go_on()


def _hand_out(answer: socket.socket, made: int, stopped_ns: int) -> None:
    line = json.dumps({"stopped_ns": stopped_ns}).encode() + b"\n"
    socket.send_fds(answer, [line], [made])
    os.close(made)


def _made(pid: int) -> tuple[int, int]:
    """A userfaultfd of a process that runs, and for how long it stood still for it, nanoseconds."""
    _check_64_bit(pid)
    for _ in range(_ATTEMPTS):
        found = _attempt(pid)
        if found is not None:
            return found
        time.sleep(_BETWEEN_S)
    raise CannotRecord(
        f"no thread of process {pid} ever stood where a system call could be put in; try again"
    )


def _attempt(pid: int) -> tuple[int, int] | None:
    """One stop of all threads; None when none of them can make a call where it stands."""
    began = time.monotonic_ns()
    threads = _stop_all(pid)
    try:
        made = _made_in(pid, [one for one in threads if one.stopped])
    finally:
        for one in threads:
            if one.stopped:
                _go_on(one)
        stood_ns = time.monotonic_ns() - began
        _wait_for_the_rest(threads)
    return None if made is None else (made, stood_ns)


def _stop_all(pid: int) -> list[Tracee]:
    """Interrupt all threads, those that appear meanwhile as well, and wait until they stand still.

    Raises:
        CannotRecord: it may not be traced, or has ended.
    """
    threads: dict[int, Tracee] = {}
    suspend = _has_seccomp(pid)
    try:
        while new := _threads(pid) - set(threads):
            for tid in new:
                with suppress(Gone, ProcessLookupError):
                    one = Tracee(tid, suspend_seccomp=suspend)
                    one.interrupt()
                    threads[tid] = one
            if not threads:
                break
            _wait_until_stopped(threads)
    except OSError as error:
        raise _refused(pid, error) from error
    if not threads:
        raise CannotRecord(f"process {pid} has ended")
    return list(threads.values())


def _threads(pid: int) -> set[int]:
    """Those that live; a leader that has ended before its threads is a zombie."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                state = (task / "stat").read_text("utf-8", "replace").rpartition(") ")[2][0]
                if state not in "ZX":
                    found.add(int(task.name))
    return found


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


def _made_in(pid: int, threads: list[Tracee]) -> int | None:
    """A userfaultfd of the process, here; nothing of it stays there. None: not where they stand.

    Raises:
        CannotRecord: the process cannot make one.
    """
    maps = Maps(pid)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        instruction = find_instruction(memory.fileno(), maps.read())
    maps.close()
    if instruction is None:
        raise CannotRecord(f"no system call instruction in the code of process {pid}")
    for one in threads:
        with suppress(Gone):
            registers = one.registers()
            if one.takes_a_call(registers):
                with injecting(one, registers, instruction) as injector:
                    return _handed_out(pid, injector)
    return None


def _handed_out(pid: int, injector: Injector) -> int:
    number = injector.call(SYS_USERFAULTFD, MAKE_FLAGS)
    if number < 0:
        why = os.strerror(-number)
        if -number in (errno.EMFILE, errno.ENFILE):
            why += "; raise its limit of open files (prlimit --nofile)"
        raise CannotRecord(f"process {pid} cannot make a userfaultfd: {why}")
    try:
        pidfd = os.pidfd_open(pid)
        try:
            made = pidfd_getfd(pidfd, number)
        finally:
            os.close(pidfd)
    finally:
        injector.call(SYS_CLOSE, number)
    if str(Path(f"/proc/self/fd/{made}").readlink()) != "anon_inode:[userfaultfd]":
        raise CannotRecord(f"process {pid} made something else than a userfaultfd")
    return made


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
            way = attach_after_exec if rest == [UNTIL_EXEC] else attach
            way(int(pid), answer)
        except CannotRecord as error:
            answer.sendall(json.dumps({"error": str(error)}).encode() + b"\n")


if __name__ == "__main__":
    main()
