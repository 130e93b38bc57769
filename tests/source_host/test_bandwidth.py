"""The bandwidth that a sender measures in real time, against a link of known rate."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, nullcontext
from threading import Event

import numpy as np
import pytest

from paging_core.guest import Guest
from source_host.precopy.clocks import ANY_LENGTH
from source_host.precopy.compression import CompressionLevel
from source_host.precopy.encoder import Encoder
from source_host.precopy.policies import XenPolicy
from source_host.precopy.rounds import RoundSender
from tests.guests.fake import FakeGuest
from tests.keyed import KEY
from tests.source_host.fake_destination import FakeDestination
from tests.source_host.harness import filled
from wire.batch import Batch

N_FRAMES = 8192
BYTES_PER_S = 10_000_000
ROUND_TRIP_NS = 5_000_000
WINDOW = 8
"""Messages that are put before one is acknowledged; each is of a MiB."""


class Stopwatch:
    """A clock like the real one, on which time passes only when a test says so."""

    def __init__(self, guest: Guest) -> None:
        self.now_ns = 0
        self._guest = guest

    def exclusive(self) -> AbstractContextManager[Guest]:
        return nullcontext(self._guest)

    def on_the_way(self, unacknowledged_bytes: int) -> int:
        return unacknowledged_bytes

    def message_bytes(self, transport_bytes: int) -> int:
        return transport_bytes

    def resume(self) -> None: ...
    def pause(self) -> None: ...
    def close(self) -> None: ...
    def await_answer(self) -> None: ...
    def digested(self, n_frames: int) -> None: ...
    def carry(self, n_bytes: int) -> None: ...
    def let_run(self, duration_ns: int) -> None: ...


class SlowDestination(FakeDestination):
    """Behind a link that carries one message after another, and a window."""

    def __init__(self, clock: Stopwatch) -> None:
        super().__init__(N_FRAMES)
        self._clock = clock
        self._free_ns = 0
        self._on_the_way: deque[tuple[int, int]] = deque()

    def send(self, batch: Batch) -> int:
        while len(self._arriving()) >= WINDOW:
            self._clock.now_ns = self._on_the_way[0][0]
        length = super().send(batch)
        began_ns = max(self._free_ns, self._clock.now_ns)
        self._free_ns = began_ns + length * 10**9 // BYTES_PER_S
        self._on_the_way.append((self._free_ns + ROUND_TRIP_NS, length))
        return length

    def drain(self) -> None:
        self._clock.now_ns = max(self._clock.now_ns, self._free_ns + ROUND_TRIP_NS)

    @property
    def unacknowledged_bytes(self) -> int:
        return sum(length for _, length in self._arriving())

    @property
    def message_bytes(self) -> int:
        return ANY_LENGTH

    def _arriving(self) -> deque[tuple[int, int]]:
        while self._on_the_way and self._on_the_way[0][0] <= self._clock.now_ns:
            self._on_the_way.popleft()
        return self._on_the_way


@pytest.fixture
def sender() -> RoundSender:
    guest = filled(FakeGuest(N_FRAMES))
    clock = Stopwatch(guest)
    destination = SlowDestination(clock)
    return RoundSender(
        n_frames=N_FRAMES,
        encoder=Encoder(guest.memory.frames, KEY, suppress=False),
        transport=destination,
        clock=clock,
        policy=XenPolicy(),
        compression=CompressionLevel(0, modelled=False),
        downtime_limit_ns=300_000_000,
        max_payload_bytes=destination.max_payload_bytes,
        cancelled=Event(),
    )


def test_what_waits_in_the_window_has_not_crossed(sender: RoundSender) -> None:
    measured = []
    add = sender.meter.add

    def noted(n_bytes: int, now_ns: int) -> None:
        add(n_bytes, now_ns)
        measured.append(sender.meter.bytes_per_s)

    sender.meter.add = noted  # type: ignore[method-assign]
    sender.send_round(live=True)
    for bytes_per_s in filter(None, measured):
        assert bytes_per_s == pytest.approx(BYTES_PER_S, rel=0.1)
    assert sender.meter.bytes_per_s > 0


def test_small_rounds_leave_what_was_measured(sender: RoundSender) -> None:
    sender.send_round(live=True)
    for gfns in ([1], [], [4, 5]):
        dirty = np.zeros(N_FRAMES // 64, np.uint64)
        for gfn in gfns:
            dirty[gfn // 64] |= np.uint64(1 << gfn % 64)
        sender.ledger.owe(dirty)
        sender.send_round(live=True)
        assert sender.meter.bytes_per_s == pytest.approx(BYTES_PER_S, rel=0.1)
