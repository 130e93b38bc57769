"""Bringing a userfaultfd out of a process, by way of `pageferry.record.attacher`."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from pageferry.record import attacher
from pageferry.record.errors import CannotRecord

_MOST_BYTES = 1 << 16


class Attached:
    """A userfaultfd that was brought out of a process.

    Attributes:
        userfaultfd: of the process, in this one; the process has none. Whoever takes it closes it.
        stopped_ns: for how long its threads stood still; 0 of a command that has not begun.
        follows: whether it is followed where it executes another program.
        answers: readable when it has.
    """

    def __init__(
        self, answers: socket.socket, attaching: subprocess.Popen[bytes], *, follows: bool
    ) -> None:
        """Of the attaching process; see `attach`."""
        self.answers = answers
        self.follows = follows
        self._attaching = attaching
        self._text = b""
        self._descriptors: list[int] = []
        self.userfaultfd = -1
        self.stopped_ns = 0

    def let_go(self) -> None:
        """Have a command begin that stands before its first instruction."""
        with suppress(OSError):
            self.answers.send(b"g")

    def still_follows(self) -> bool:
        """Whether a command is followed, and what follows it still lives."""
        if self.follows and select.select([self.answers], [], [], 0)[0]:
            self.follows = bool(self.answers.recv(1, socket.MSG_PEEK))
        return self.follows

    def wait_for_exec(self, within_s: float) -> bool:
        """Whether a command that is followed has executed another program, which stands.

        The userfaultfd is that program's then.

        Raises:
            CannotRecord: it cannot be recorded.
        """
        if not self.follows or not select.select([self.answers], [], [], within_s)[0]:
            return False
        if not self.still_follows():
            return False
        self.take_answer()
        return True

    def take_answer(self) -> None:
        """Read the next answer.

        Raises:
            CannotRecord: it could not be done, and why.
        """
        answer = json.loads(self.line() or b'{"error": "what attaches was ended; try again"}')
        if "error" in answer:
            raise CannotRecord(answer["error"])
        self.userfaultfd = self._descriptors.pop()
        os.set_inheritable(self.userfaultfd, False)
        self.stopped_ns = answer["stopped_ns"]

    def line(self) -> bytes:
        """The next line of the attaching process; empty when it has ended."""
        while b"\n" not in self._text:
            part, received, *_ = socket.recv_fds(self.answers, _MOST_BYTES, 1)
            self._text += part
            self._descriptors += received
            if not part:
                return b""
        line, _, self._text = self._text.partition(b"\n")
        return line

    def close(self) -> None:
        """Follow a command no longer; it goes on."""
        self.answers.close()
        self._attaching.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def attach(
    pid: int, *, seized: Callable[[], None] | None = None, all_faults: bool = False
) -> Attached:
    """Make a userfaultfd inside a process and bring it here.

    Args:
        pid: the process.
        seized: the process is about to execute a program: called once it cannot get away, to have
            it do so; the descriptor is that program's, which stands until `Attached.let_go`, and
            is followed where it executes others. None: as it runs now.
        all_faults: the kernel's own accesses to its memory shall be able to wait as well, those of
            its system calls, as synchronous protection needs; takes a right of that process.

    Raises:
        CannotRecord: it cannot be done; says why.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", attacher.__name__, str(pid), str(theirs.fileno())]
    if seized is not None:
        command.append(attacher.UNTIL_EXEC)
    if all_faults:
        command.append(attacher.WITH_ALL_FAULTS)
    with theirs:
        running = subprocess.Popen(  # noqa: S603 - this Python, a module of ours
            command, pass_fds=[theirs.fileno()], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    attached = Attached(ours, running, follows=seized is not None)
    try:
        if seized is not None and attached.line() == attacher.SEIZED:
            seized()
        attached.take_answer()
    except BaseException:
        attached.close()
        raise
    return attached
