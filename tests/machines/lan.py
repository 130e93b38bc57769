"""Two machines on one desk: network namespaces with addresses of their own and a slow wire."""

from __future__ import annotations

import itertools
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from wire.hosting.serving import Ready

RATE_BITS_PER_S = 200_000_000
_BURST_BYTES = 256 * 1024
_READY_S = 120.0


def run(*command: str) -> str:
    """Run a command that has to work; what it printed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"
    return ended.stdout


class Lan:
    """Two machines and the wire between them. Also a context manager.

    Names are of this process and this object alone: two of them stand side by side, whichever
    tests run beside each other, and the addresses are seen only inside the namespaces.

    Attributes:
        addresses: of the first and of the second machine.
    """

    addresses = ("10.77.0.1", "10.77.0.2")
    _made = itertools.count()

    def __init__(self, bits_per_s: int = RATE_BITS_PER_S) -> None:
        """Nothing is there yet.

        Args:
            bits_per_s: what the wire lets through.
        """
        self._bits_per_s = bits_per_s
        own = f"pf{os.getpid()}-{next(self._made)}"
        self._names = (f"{own}-1", f"{own}-2")
        self._ends = (f"{own}a", f"{own}b")  # an interface has at most 15 characters

    def __enter__(self) -> Self:
        for name in self._names:
            run("ip", "netns", "add", name)
        one, other = self._ends
        run("ip", "link", "add", one, "type", "veth", "peer", "name", other)
        for name, end, address in zip(self._names, self._ends, self.addresses, strict=True):
            run("ip", "link", "set", end, "netns", name)
            self.inside(name, "ip", "address", "add", f"{address}/24", "dev", end)
            self.inside(name, "ip", "link", "set", "lo", "up")
            self.inside(name, "ip", "link", "set", end, "up")
            self.inside(
                name, "tc", "qdisc", "add", "dev", end, "root", "tbf",
                "rate", f"{self._bits_per_s}bit", "burst", str(self._burst_bytes()),
                "latency", "100ms",
            )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _burst_bytes(self) -> int:
        """A slow wire lets no more through at once than it carries in a quarter of a second."""
        return max(16 * 1024, min(_BURST_BYTES, self._bits_per_s // 32))

    def inside(self, name: str, *command: str) -> str:
        """Run a command on a machine."""
        return run("ip", "netns", "exec", name, *command)

    def plug(self, *, in_: bool) -> None:
        """Pull the wire out of the second machine, or put it back."""
        state = "up" if in_ else "down"
        self.inside(self._names[1], "ip", "link", "set", self._ends[1], state)

    def command(self, machine: int, *arguments: str) -> list[str]:
        """How to run Python with these arguments on a machine (0 or 1)."""
        return ["ip", "netns", "exec", self._names[machine], sys.executable, *arguments]

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


class Host:
    """A host that serves on one of the machines. Also a context manager.

    Attributes:
        address: where it serves.
    """

    def __init__(self, lan: Lan, machine: int, module: str, arguments: Sequence[str]) -> None:
        listen = f"{lan.addresses[machine]}:0"
        self._process = subprocess.Popen(
            lan.command(machine, "-m", module, "serve", "--listen", listen, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._wait().address

    def _wait(self) -> Ready:
        assert self._process.stdout is not None
        deadline = time.monotonic() + _READY_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                ready = Ready.parse(self._process.stdout.readline())
                if ready is not None:
                    return ready
                assert self._process.poll() is None, "it ended"
        raise AssertionError("it did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()
