"""A cancel is heeded while a message is carried, and leaves no time that never was."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from paging_core.errors import MigrationCancelled
from source_host.precopy.clocks import VirtualClock
from source_host.precopy.link import Link
from tests.guests.fake import FakeGuest

MIB = 2**20


class Watched(FakeGuest):
    """Cancels in its fifth run."""

    def __init__(self, cancelled: Event) -> None:
        super().__init__(16)
        self.cancelled = cancelled
        self.runs = 0

    def run(self, until_ns: int) -> None:
        self.runs += 1
        if self.runs == 5:
            self.cancelled.set()
        super().run(until_ns)


@pytest.mark.parametrize(
    "wait",
    [
        lambda clock: clock.carry(4 * MIB),
        lambda clock: clock.await_answer(),
        lambda clock: clock.let_run(10**15),
    ],
)
def test_a_cancel_while_time_passes(wait: Callable[[VirtualClock], None]) -> None:
    cancelled = Event()
    guest = Watched(cancelled)
    clock = VirtualClock(guest, Link(8, latency_ns=10**15), cancelled)
    clock.resume()
    with pytest.raises(MigrationCancelled):
        wait(clock)
    assert guest.runs == 5
    assert clock.now_ns == guest.time_ns < 10**9
    # And the guest goes on from there, without a leap.
    clock.pause()
    clock.resume()
    assert guest.time_ns == clock.now_ns
