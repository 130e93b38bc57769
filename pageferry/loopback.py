"""Both hosts as child processes on this machine, for as long as they are needed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from wire.hosting.launch import HostProcess

_DYING_S = 3.0
"""How long a process that lost its sockets may take to free its memory and end."""


class Loopback:
    """A source host and a destination host on loopback; gone when the block ends."""

    def __init__(
        self, source_arguments: Sequence[str] = (), destination_arguments: Sequence[str] = ()
    ) -> None:
        """Start nothing yet.

        Args:
            source_arguments: further ones of ``source-host serve``.
            destination_arguments: further ones of ``dest-host serve``.
        """
        # At the end of the block nothing is waited for: what still runs is cancelled.
        self._arguments = {
            "source_host": ("--drain", "0s", *source_arguments),
            "dest_host": destination_arguments,
        }
        self._processes: dict[str, HostProcess] = {}

    def __enter__(self) -> Self:
        """Start both at the same time.

        Raises:
            HostUnreachable: one of them did not start; with its last words.
        """
        try:
            for module, arguments in self._arguments.items():
                self._processes[module] = HostProcess(
                    module, arguments, environment=_without_settings(module), wait=False
                )
            for process in self._processes.values():
                process.wait_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.hurry()
        self._stop()

    def hurry(self) -> None:
        """The end is wanted now: end both at once, with whatever they are doing.

        They were started for one run, and nobody else has a guest there.
        """
        for process in self._processes.values():
            process.process.kill()

    @property
    def source(self) -> str:
        """Where the source host listens."""
        return self._processes["source_host"].ready.address

    @property
    def destination(self) -> str:
        """Where the destination host listens."""
        return self._processes["dest_host"].ready.address

    def post_mortem(self) -> str | None:
        """One line about a host that ended by itself; None when both live on.

        For when one of them stopped answering: its sockets close before the process ends.
        """
        until = time.monotonic() + _DYING_S
        while time.monotonic() < until:
            for module, process in self._processes.items():
                if process.ended:
                    return f"{module} ended in the middle of it: {process.last_words()}"
            time.sleep(0.02)
        return None

    def _stop(self) -> None:
        for process in self._processes.values():
            process.process.terminate()
        for process in self._processes.values():
            process.stop()


def _without_settings(module: str) -> dict[str, str]:
    """This process's environment, without what is set there for a host that serves for others."""
    prefix = f"{module.upper()}_"
    return {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
