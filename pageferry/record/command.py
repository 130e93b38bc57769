"""A command that is started to be recorded from its first instruction on."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import NoReturn

from pageferry.record.attach import Attached, attach
from pageferry.record.errors import CannotRecord
from pageferry.record.linux import without_huge_pages

_NOT_FOUND = 127
_ENDS_WITHIN_S = 5.0


def start(command: Sequence[str], *, huge_pages: bool = True) -> tuple[int, Attached]:
    """Start a command and attach to it before its first instruction; it runs on its own then.

    Args:
        command: program and arguments.
        huge_pages: whether it may have transparent ones.

    Returns:
        Its process id, of a child of this process, and the userfaultfd.

    Raises:
        CannotRecord: it cannot be started or attached to.
    """
    if which(command[0]) is None:
        raise CannotRecord(f"there is no command {command[0]!r}; give its path")
    go_read, go_write = os.pipe()
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(failure_read)
        _execute(command, go_read, failure_write, huge_pages=huge_pages)
    os.close(go_read)
    os.close(failure_write)
    try:
        with open(failure_read, "rb") as failure:  # noqa: PTH123 - a descriptor
            try:
                return pid, attach(pid, seized=lambda: _go(go_write))
            except BaseException as error:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                if isinstance(error, CannotRecord):
                    raise _not_started(command, failure.read()) or error from error
                raise
    finally:
        os.close(go_write)


def _go(pipe: int) -> None:
    os.write(pipe, b"g")


def _execute(command: Sequence[str], go: int, failure: int, *, huge_pages: bool) -> NoReturn:
    """In the child: become the command once somebody says so."""
    try:
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(signum, signal.SIG_DFL)
        if not huge_pages:
            without_huge_pages()
        if os.read(go, 1):
            os.execvp(command[0], list(command))  # noqa: S606 - what the user typed
    except OSError as error:
        os.write(failure, struct.pack("i", error.errno or 0))
    finally:
        os._exit(_NOT_FOUND)


def _not_started(command: Sequence[str], failure: bytes) -> CannotRecord | None:
    if len(failure) < struct.calcsize("i"):
        return None
    (number,) = struct.unpack("i", failure)
    return CannotRecord(f"{command[0]} cannot be executed: {os.strerror(number)}")


def end(pid: int) -> str:
    """Ask a command that was started to end, and wait for it.

    Returns:
        What became of it, in words.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def command_line(pid: int) -> list[str]:
    """Program and arguments of a process; empty of one that has none or has gone."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(one) for one in text.rstrip(b"\0").split(b"\0")] if text else []
