"""A guest in its thread: what stops it for good, and what it only waits for."""

from __future__ import annotations

import gc
from typing import cast
from weakref import ref

import pytest

from paging_core.guest import Driven, Guest, Parts
from tests.journey.hosts import until
from wire.hosting.guest_thread import GuestThread


class Stumbling:
    """A guest that raises what it was told to, as often as it was told to."""

    @property
    def parts(self) -> Parts:
        return Parts(driven=cast("Driven", self))

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times = error, times
        self.time_ns = 0
        self.held = [0]

    def run(self, until_ns: int) -> None:
        if self.times:
            self.times -= 1
            raise self.error
        self.time_ns = until_ns


def test_want_of_memory_holds_a_guest_up_and_nothing_more() -> None:
    guest = Stumbling(MemoryError(), 2)
    thread = GuestThread(cast("Guest", guest))
    thread.resume()
    until(lambda: guest.time_ns > 0)
    thread.check()
    thread.stop()


def test_anything_else_stops_it() -> None:
    guest = Stumbling(ZeroDivisionError(), 1)
    thread = GuestThread(cast("Guest", guest))
    thread.resume()
    until(lambda: guest.times == 0)
    with pytest.raises(ZeroDivisionError):
        until(lambda: thread.check() or False)  # type: ignore[func-returns-value]
    assert guest.time_ns == 0
    thread.stop()


def test_what_stopped_it_holds_no_guest() -> None:
    class Memory:
        """Stands for what only a frame refers to."""

    class Holding(Stumbling):
        def run(self, until_ns: int) -> None:
            memory = Memory()
            seen.append(ref(memory))
            super().run(until_ns)

    seen: list[ref[Memory]] = []
    guest = Holding(ZeroDivisionError(), 1)
    gc.disable()
    try:
        thread = GuestThread(cast("Guest", guest))
        thread.resume()
        until(lambda: guest.times == 0)
        thread.stop()
        assert seen[0]() is None
    finally:
        gc.enable()
