"""How fast a program is by its own account: a command of the user's that prints a number."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from contextlib import suppress
from typing import Self

from pageferry.record.errors import CannotRecord
from paging_core.text import printable

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_MOST_BYTES = 1 << 16


class Throughput:
    """Runs a shell's command beside a round, and takes the last number that it prints."""

    def __init__(self, command: str) -> None:
        """Nothing runs yet; nothing ever does where the command is empty."""
        self._command = command
        self._running: subprocess.Popen[bytes] | None = None
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this

    def runs(self) -> bool:
        """Whether it goes on."""
        return self._running is not None and self._running.poll() is None

    def number(self) -> float | None:
        """What it printed last; None where there is no command.

        Raises:
            CannotRecord: it failed, or printed no number.
        """
        if self._running is None:
            return None
        code = self._running.wait()
        self._printed.seek(0)
        printed = self._printed.read()[-_MOST_BYTES:]
        if code:
            raise CannotRecord(f"the command of --throughput ended with {code}; try it by itself")
        numbers = _NUMBER.findall(printed.strip().rpartition(b"\n")[2])
        if not numbers:
            shown = printable(printed.decode("utf-8", "replace").strip())[-80:]
            raise CannotRecord(
                f"the command of --throughput printed no number in its last line ({shown!r}); have "
                "it print how fast the program is"
            )
        return float(numbers[-1])

    def __enter__(self) -> Self:
        if self._command:
            self._running = subprocess.Popen(  # noqa: S602 - what the user typed is for a shell
                self._command, shell=True, stdin=subprocess.DEVNULL, stdout=self._printed,
                start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None and self.runs():
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
        self._printed.close()
