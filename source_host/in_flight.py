"""What is on the way: messages that were sent and not yet acknowledged.

One thread puts messages in, gRPC's own takes them out, a third reports acknowledgements.
The window bounds the memory that a slow destination can make this host hold, and the time that
what was sent already takes to arrive.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition

from paging_core.errors import ContractBroken, HostUnreachable, PageferryError
from source_host.pace import MESSAGES, Pace, Sent
from wire.tcp import SLOWEST_BYTES_PER_S

STALL_S = 60.0
"""A destination that takes nothing for so long is given up; `--stall-timeout` of a source."""
_FRAMING_BYTES = 64 * 2**10
"""That a connection may have delivered beside the messages: a handshake, headers, pings."""


class InFlight:
    """A bounded window of messages, numbered from 0. Thread-safe."""

    def __init__(
        self,
        *,
        stall_s: float = STALL_S,
        on_ack: Callable[[float], None] = lambda _seconds: None,
        now: Callable[[], float] = time.monotonic,
        peer: str = "the destination",
    ) -> None:
        """An open window.

        Args:
            stall_s: longest time in which nothing arrives.
            on_ack: told the seconds from `put` to its acknowledgement.
            now: seconds, for the pace and for stalls.
            peer: who acknowledges, as an error names it.
        """
        self._stall_s = stall_s
        self._on_ack = on_ack
        self._now = now
        self._peer = peer
        self._turn = Condition()
        self._queue: deque[bytes] = deque()
        self._put: deque[Sent] = deque()
        self._pace = Pace()
        self._acknowledged = 0
        self._sent_bytes = 0
        self._received_bytes = 0
        self._moved_s = now()
        self._ended = False
        self._failure: PageferryError | None = None

    def put(self, message: bytes) -> None:
        """Send one more; waits while the window is full.

        Two may always be on the way: a destination may acknowledge every second one only.

        Raises:
            HostUnreachable: nothing arrived for `stall_s`.
            PageferryError: what `fail` was called with.
        """
        with self._turn:
            self._wait(lambda: self._has_room(len(message)))
            now_s = self._now()
            if not self._put:
                self._moved_s = now_s
            self._queue.append(message)
            self._put.append(self._pace.sent(len(message), now_s))
            self._sent_bytes += len(message)
            self._turn.notify_all()

    def wait_empty(self) -> None:
        """Return when everything was acknowledged; raises like `put`."""
        with self._turn:
            self._wait(lambda: not self._put)

    @property
    def n_bytes(self) -> int:
        """Of the messages that are on the way."""
        with self._turn:
            return self._bytes_on_the_way()

    @property
    def message_bytes(self) -> int:
        """How long the next message should be at most."""
        with self._turn:
            return self._pace.message_bytes

    @property
    def silent_s(self) -> float:
        """For how long nothing has arrived of what is on the way; 0 when nothing is."""
        with self._turn:
            return self._now() - self._moved_s if self._put else 0.0

    def acknowledge(self, sequence: int) -> None:
        """The message `sequence` and all before it arrived."""
        with self._turn:
            now_s = self._now()
            arrived = sequence + 1 - self._acknowledged
            if not 0 <= arrived <= len(self._put):
                on_the_way = f"{self._acknowledged} to {self._acknowledged + len(self._put) - 1}"
                self._fail(
                    ContractBroken(
                        f"{self._peer} acknowledges batch {sequence}, and what is on the way is "
                        f"{on_the_way if self._put else 'none'}; look into that host"
                    )
                )
                return
            messages = [self._put.popleft() for _ in range(arrived)]
            for message in messages:
                self._pace.arrived(message, now_s)
            self._acknowledged += arrived
            if arrived:
                self._moved_s = now_s
            self._turn.notify_all()
        for message in messages:
            self._on_ack(now_s - message.at_s)

    def progressed(self, received_bytes: int) -> None:
        """The destination says how many bytes have come, of messages that are not whole yet.

        Counts as movement when it is more than pings make of it, and could have been sent.
        """
        with self._turn:
            now_s = self._now()
            more_bytes = received_bytes - self._received_bytes
            plausible = received_bytes <= self._sent_bytes * 5 // 4 + _FRAMING_BYTES
            if plausible and more_bytes >= SLOWEST_BYTES_PER_S * (now_s - self._moved_s):
                self._moved_s = now_s
                self._received_bytes = received_bytes
                self._turn.notify_all()

    def fail(self, error: PageferryError) -> None:
        """Nothing more will arrive: all that wait, now or later, get `error`."""
        with self._turn:
            self._fail(error)

    def end(self) -> None:
        """Nothing more will be sent."""
        with self._turn:
            self._ended = True
            self._turn.notify_all()

    def messages(self) -> Iterator[bytes]:
        """What to send, in order, until the end or a failure."""
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._queue or self._ended or self._failure)
                if self._failure is not None or not self._queue:
                    return
                message = self._queue.popleft()
            yield message

    def _fail(self, error: PageferryError) -> None:
        if self._failure is None:
            self._failure = error
        self._turn.notify_all()

    def _has_room(self, n_bytes: int) -> bool:
        if len(self._put) < 2:
            return True
        fits = self._bytes_on_the_way() + n_bytes <= self._pace.window_bytes
        return fits and len(self._put) < MESSAGES

    def _bytes_on_the_way(self) -> int:
        return sum(message.n_bytes for message in self._put)

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait for `ready` as long as something arrives; holds `_turn`."""
        while self._failure is None and not ready():
            moved_s = self._moved_s
            left_s = self._stall_s - (self._now() - moved_s)
            if left_s <= 0:
                raise HostUnreachable(
                    f"the destination took nothing for {self._stall_s:.0f} s, not "
                    f"{SLOWEST_BYTES_PER_S} bytes a second; see whether it or the network is "
                    "stuck, or give the source host a longer --stall-timeout"
                )
            self._turn.wait_for(
                lambda: self._failure or ready() or self._moved_s > moved_s,  # noqa: B023
                left_s,
            )
        if self._failure is not None:
            raise self._failure
