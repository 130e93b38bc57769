"""What is on the way: messages that were sent and that nobody has acknowledged yet.

One thread puts messages in, gRPC's own takes them out, a third reports acknowledgements.
The window bounds the memory that a slow destination can make this host hold.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition

from paging_core.errors import ContractBroken, HostUnreachable, PageferryError

WINDOW = 8
"""Most messages on the way: 32 MiB of frames."""
STALL_S = 60.0
"""A destination that acknowledges nothing for so long is given up."""


class InFlight:
    """A bounded window of messages, numbered from 0. Thread-safe."""

    def __init__(
        self,
        *,
        window: int = WINDOW,
        stall_s: float = STALL_S,
        on_ack: Callable[[float], None] = lambda _seconds: None,
        peer: str = "the destination",
    ) -> None:
        """An open window.

        Args:
            window: most messages on the way.
            stall_s: longest wait without any acknowledgement.
            on_ack: told the seconds from `put` to its acknowledgement.
            peer: who acknowledges, as an error names it.
        """
        self._window = window
        self._stall_s = stall_s
        self._on_ack = on_ack
        self._peer = peer
        self._turn = Condition()
        self._queue: deque[bytes] = deque()
        self._put: deque[tuple[float, int]] = deque()
        self._acknowledged = 0
        self._ended = False
        self._failure: PageferryError | None = None

    def put(self, message: bytes) -> None:
        """Send one more; waits while the window is full.

        Raises:
            HostUnreachable: no acknowledgement for `stall_s`.
            PageferryError: what `fail` was called with.
        """
        with self._turn:
            self._wait(lambda: len(self._put) < self._window)
            self._queue.append(message)
            self._put.append((time.perf_counter(), len(message)))
            self._turn.notify_all()

    def wait_empty(self) -> None:
        """Return when everything was acknowledged; raises like `put`."""
        with self._turn:
            self._wait(lambda: not self._put)

    @property
    def n_bytes(self) -> int:
        """Of the messages that are on the way."""
        with self._turn:
            return sum(length for _, length in self._put)

    def acknowledge(self, sequence: int) -> None:
        """The message `sequence` and all before it arrived."""
        now = time.perf_counter()
        with self._turn:
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
            waits = [now - self._put.popleft()[0] for _ in range(arrived)]
            self._acknowledged += arrived
            self._turn.notify_all()
        for seconds in waits:
            self._on_ack(seconds)

    def fail(self, error: PageferryError) -> None:
        """Nothing more will arrive: whoever waits, now or later, gets `error`."""
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

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait for `ready` as long as acknowledgements come; holds `_turn`."""
        while self._failure is None and not ready():
            before = self._acknowledged
            self._turn.wait_for(
                lambda: self._failure or ready() or self._acknowledged > before,  # noqa: B023
                self._stall_s,
            )
            if self._failure is None and self._acknowledged == before and not ready():
                raise HostUnreachable(
                    f"the destination acknowledged nothing for {self._stall_s:.0f} s; "
                    "see whether it is overloaded or stuck"
                )
        if self._failure is not None:
            raise self._failure
