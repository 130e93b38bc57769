"""A process to record, and whether this machine can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pageferry.cli.recording import check_kernel
from pageferry.record.attach import attach
from pageferry.record.tracker import Pages, Tracker
from paging_core.errors import CannotTrack

SCRIPT = Path(__file__).with_name("writer.py")


@cache
def _why_not() -> str:
    """Why nothing can be recorded here; empty if something can."""
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            check_kernel()
            attach(process.pid).close()
        except CannotTrack as error:
            return str(error)
        finally:
            process.kill()
    return ""


@pytest.fixture
def can_record() -> None:
    if why := _why_not():
        pytest.skip(why)


class Writing:
    """A process that writes what it is told to."""

    def __init__(self, where: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=where,
        )
        self.pid = self.process.pid
        self._answer()

    def tell(self, command: str, *numbers: int) -> int:
        """Have it do something, and wait until it has."""
        self.begin(command, *numbers)
        answer = self._answer()
        return int(answer) if answer != "None" else 0

    def ask(self, command: str) -> str:
        self.begin(command)
        return self._answer()

    def begin(self, command: str, *numbers: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(" ".join([command, *map(str, numbers)]) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def writing(can_record: None, tmp_path: Path) -> Iterator[Writing]:
    del can_record
    process = Writing(tmp_path)
    yield process
    process.end()


Track = Callable[[], Tracker]


@pytest.fixture
def track(writing: Writing) -> Iterator[Track]:
    trackers = []

    def begin() -> Tracker:
        with attach(writing.pid) as attached:
            trackers.append(Tracker(writing.pid, attached))
        trackers[-1].take()
        return trackers[-1]

    yield begin
    for one in trackers:
        with suppress(OSError):
            one.close()


def within(pages: Pages, address: int, count: int) -> list[int]:
    """Pages of a mapping, counted from its start."""
    first = np.uint64(address >> 12)
    inside = (pages >= first) & (pages < first + np.uint64(count))
    return [int(page) for page in pages[inside] - first]
