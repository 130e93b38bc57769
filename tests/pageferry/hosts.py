"""Runs of the real command in processes of its own, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SMALL = ["--memory", "8MiB", "--workload", "hotcold:wss=2MiB"]
"""A migration that takes no time worth mentioning."""
ENDLESS = ["--memory", "256MiB", "--workload", "uniform:wss=192MiB,write_rate=20M",
           "--policy", "xen-2009", "--max-rounds", "29", "--zstd-level", "19"]  # fmt: skip
"""One that is still under way when a test looks."""

_DEADLINE_S = 120


def pageferry(
    *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pageferry.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE_S,
        env=os.environ | (env or {}),
    )


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs, in a group of its own as a shell would start it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pageferry.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines that the command says on stderr, up to the one with a text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError(f"never said {text!r} but {lines}")


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.extend(map(int, (task / "children").read_text().split()))
    return found


def wait_until_gone(pids: Sequence[int]) -> None:
    """Poll until none of the processes lives."""
    until = time.monotonic() + _DEADLINE_S
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < until, f"still alive: {pids}"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, as a terminal sends it: to the whole group in the foreground."""
    os.killpg(process.pid, signal.SIGINT)
