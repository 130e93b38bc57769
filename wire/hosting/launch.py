"""A host in a process of its own: started, waited for, ended."""

from __future__ import annotations

import ctypes
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Self

from paging_core.errors import HostUnreachable
from wire.channel import malloc_environment
from wire.hosting.serving import Ready

_READY_TIMEOUT_S = 300.0
"""The first start on a machine compiles the kernels, half a minute of a processor that is idle."""
_STOP_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the process (thread) that started this one is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class HostProcess:
    """``python -m MODULE serve …`` beside this process. Also a context manager.

    It has a session of its own: Ctrl-C on a terminal reaches only the process that started it.

    Attributes:
        ready: where it serves, once `wait_ready` returned.
        process: the child.
    """

    ready: Ready

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        listen: str = "127.0.0.1:0",
        log: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = _READY_TIMEOUT_S,
        wait: bool = True,
    ) -> None:
        """Start it and wait until it serves.

        Args:
            module: ``source_host`` or ``dest_host``.
            arguments: further ones of ``serve``.
            listen: where it shall serve; a free port of loopback unless told.
            log: where its log goes; thrown away when None.
            environment: its own; that of this process when None.
            timeout_s: how long it may take.
            wait: False returns at once, for several that start at the same time; call
                `wait_ready` then.

        Raises:
            HostUnreachable: it ended or did not get ready in time; with its last words.
        """
        self._module = module
        self._timeout_s = timeout_s
        self._own_log = None if log else tempfile.TemporaryFile()  # noqa: SIM115 - see stop
        command = [sys.executable, "-m", module, "serve", "--listen", listen, "--exit-with-parent"]
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log or self._own_log,
            env=malloc_environment(environment),
            start_new_session=True,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it serves; it is ended when it does not.

        Raises:
            HostUnreachable: it ended or did not get ready in time; with its last words.
        """
        try:
            self.ready = self._wait_ready()
        except BaseException:
            self.stop(0)
            raise

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.process.poll() is not None

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> int:
        """End it: SIGTERM, and SIGKILL when it takes longer than `timeout_s`.

        Returns:
            Its exit status.
        """
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self._own_log is not None:
            self._own_log.close()
        return status

    def _wait_ready(self) -> Ready:
        assert self.process.stdout is not None  # noqa: S101 - we asked for a pipe
        until = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, until - time.monotonic())):
                line = self.process.stdout.readline().decode()
                ready = Ready.parse(line)
                if ready is not None:
                    return ready
                if not line:
                    break
        raise HostUnreachable(f"{self._module} did not start: {self.last_words()}")

    def last_words(self) -> str:
        """Why it ended, as far as its log says; one line."""
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return f"it was not ready after {self._timeout_s:.0f} s; is the machine overloaded?"
        ending = _ending(self.process.returncode)
        if self._own_log is None:
            return f"it ended with {ending}; see its log"
        self._own_log.seek(0)
        lines = self._own_log.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return f"it ended with {ending}: {last}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
