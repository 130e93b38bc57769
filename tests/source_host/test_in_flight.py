"""The window of a stream on links of any speed, simulated: how much is on the way, who is dead."""

from __future__ import annotations

import threading
import time
from collections import deque

import pytest

from paging_core.errors import HostUnreachable
from source_host.in_flight import InFlight
from source_host.pace import FIRST_BYTES, IN_FLIGHT_S, MESSAGES, MOST_BYTES, Pace, Sent
from wire.tcp import SLOWEST_BYTES_PER_S

KBIT = 125
"""Bytes a second."""
FRAME = 4096


class Line:
    """A link with a rate and a round trip, and a sender that always has something to send."""

    def __init__(self, bytes_per_s: float, round_trip_s: float = 0.001) -> None:
        self.pace = Pace()
        self.now_s = 0.0
        self.bytes_per_s = bytes_per_s
        self._round_trip_s = round_trip_s
        self._free_s = 0.0
        self._on_the_way: deque[tuple[float, Sent]] = deque()
        self.longest_s = 0.0
        self.sent_bytes = 0

    def send(self, total_bytes: int) -> None:
        """Send so much, in messages as long as the pace has them."""
        while total_bytes > 0:
            n_bytes = min(total_bytes, self.pace.message_bytes)
            while len(self._on_the_way) >= 2 and (
                len(self._on_the_way) >= MESSAGES
                or sum(one.n_bytes for _, one in self._on_the_way) + n_bytes
                > self.pace.window_bytes
            ):
                self._take_answer()
            self._free_s = max(self._free_s, self.now_s) + n_bytes / self.bytes_per_s
            message = self.pace.sent(n_bytes, self.now_s)
            self._on_the_way.append((self._free_s + self._round_trip_s, message))
            total_bytes -= n_bytes
            self.sent_bytes += n_bytes
        while self._on_the_way:
            self._take_answer()

    def _take_answer(self) -> None:
        arrives_s, message = self._on_the_way.popleft()
        self.now_s = max(self.now_s, arrives_s)
        self.longest_s = max(self.longest_s, self.now_s - message.at_s)
        self.pace.arrived(message, self.now_s)


@pytest.mark.parametrize("kbit", [16, 64, 256, 1000, 20_000])
@pytest.mark.parametrize("round_trip_s", [0.001, 0.3, 5.0])
def test_what_is_on_the_way_arrives_in_seconds(kbit: int, round_trip_s: float) -> None:
    line = Line(kbit * KBIT, round_trip_s)
    line.send(120 * kbit * KBIT)
    first_s = FIRST_BYTES / (kbit * KBIT)
    assert line.longest_s <= first_s + 2 * IN_FLIGHT_S + 3 * round_trip_s
    # And the link is never idle for want of messages, but in the beginning and at the end.
    assert line.now_s <= 120 * 1.1 + 12 * round_trip_s


@pytest.mark.parametrize("round_trip_s", [0.0001, 0.1])
def test_a_fast_link_gets_whole_batches_soon(round_trip_s: float) -> None:
    line = Line(10**9, round_trip_s)
    line.send(2 * MOST_BYTES)
    assert line.pace.message_bytes == MOST_BYTES // MESSAGES
    assert line.now_s < 2 * MOST_BYTES / 10**9 + 15 * round_trip_s + 0.1


def test_a_link_that_becomes_slow_and_fast_again() -> None:
    line = Line(10**8)
    line.send(2 * MOST_BYTES)
    line.bytes_per_s = 1000 * KBIT
    line.send(2 * MOST_BYTES)
    assert line.pace.window_bytes <= 3 * 1000 * KBIT
    line.bytes_per_s = 10**8
    line.send(2 * MOST_BYTES)
    assert line.pace.window_bytes == MOST_BYTES


def test_a_message_is_a_frame_at_least() -> None:
    line = Line(10)
    line.send(3 * FRAME)
    assert line.pace.message_bytes >= FRAME


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def gives_up(window: InFlight) -> bool:
    """Whether all that wait are told that the destination is dead; at once, by the clock."""
    failed = threading.Event()

    def wait() -> None:
        with pytest.raises(HostUnreachable, match=r"--stall-timeout"):
            window.wait_empty()
        failed.set()

    threading.Thread(target=wait, daemon=True).start()
    return failed.wait(0.3)


def test_bytes_of_a_message_are_progress_and_pings_are_not() -> None:
    clock = Clock()
    window = InFlight(stall_s=60, now=clock)
    window.put(bytes(10_000_000))
    for second in range(1, 10):
        clock.now_s += 50
        window.progressed(second * 50 * SLOWEST_BYTES_PER_S)
    assert window.silent_s == 0
    clock.now_s += 50
    window.progressed(9 * 50 * SLOWEST_BYTES_PER_S + 5 * 46)  # a ping every ten seconds
    assert window.silent_s == 50
    clock.now_s += 11
    assert gives_up(window)


def test_more_bytes_than_were_sent_are_no_progress() -> None:
    clock = Clock()
    window = InFlight(stall_s=60, now=clock)
    window.put(bytes(1000))
    clock.now_s += 61
    window.progressed(10**9)
    assert gives_up(window)


def test_an_acknowledgement_is_progress() -> None:
    clock = Clock()
    window = InFlight(stall_s=60, now=clock)
    for _ in range(2):
        window.put(b"message")
    clock.now_s += 59
    window.acknowledge(0)
    clock.now_s += 59
    assert window.silent_s == 59
    window.acknowledge(1)
    assert window.silent_s == 0
    window.wait_empty()


def test_two_messages_are_on_the_way_however_long() -> None:
    window = InFlight(stall_s=60)
    for _ in range(2):
        window.put(bytes(MOST_BYTES))
    assert window.n_bytes == 2 * MOST_BYTES
    third = threading.Thread(target=window.put, args=(b"third",), daemon=True)
    third.start()
    time.sleep(0.1)
    assert window.n_bytes == 2 * MOST_BYTES
    window.acknowledge(0)
    window.acknowledge(1)
    third.join(30)
    assert window.n_bytes == len(b"third")
