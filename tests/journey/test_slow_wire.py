"""However slow a connection: a peer that sends at all is alive, a silent one is given up.

The hosts give up after two seconds here, so that a message can take longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import MIB, Pair, assert_goes_on, assert_same, new_name, spec, until
from tests.journey.slow_wire import SlowWire

IDLE = "2s"
KBIT = 125
"""Bytes a second."""
REAL: dict[str, Any] = {
    "clock": common_pb2.CLOCK_REAL, "link_bits_per_s": 0, "latency_ns": 0, "warmup_ns": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def strict() -> Iterator[Pair]:
    """Two hosts that wait for two seconds of silence."""
    silence = ["--stream-idle", IDLE, "--idle-expiry", IDLE]
    with Pair(["--stall-timeout", IDLE], silence) as pair:
        yield pair


def random_guest(memory_bytes: int) -> common_pb2.GuestSpec:
    """That no compression makes smaller, and that writes nothing more."""
    guest = spec(new_name(), "idle", fill=common_pb2.MEMORY_FILL_RANDOM)
    guest.memory_bytes = memory_bytes
    return guest


@pytest.mark.parametrize("kbit", [700, 4000])
def test_a_guest_crosses_in_messages_that_suit_the_wire(strict: Pair, kbit: int) -> None:
    guest = random_guest(MIB)
    with SlowWire(strict.destination.address, kbit * KBIT) as wire:
        name = strict.source.boot(guest)
        status = strict.source.follow(strict.source.migrate(name, wire.address, **REAL))
        assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
        assert wire.carried_bytes > guest.memory_bytes
    strict.forget_guests()


def test_a_message_that_takes_longer_than_silence_may_last(strict: Pair) -> None:
    # On the virtual clock messages are as long as the model has them, whatever carries them.
    guest = random_guest(2 * MIB)
    with SlowWire(strict.destination.address, 3000 * KBIT) as wire:
        name = strict.source.boot(guest)
        began_s = time.monotonic()
        status = strict.source.follow(strict.source.migrate(name, wire.address))
        assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
        assert time.monotonic() - began_s > 4  # one message, twice as long as they wait
    arrived = strict.destination.guest(name)
    assert_same(arrived, strict.source.twin_at(guest, arrived.accesses))
    strict.forget_guests()


@pytest.mark.parametrize("how", [{}, REAL])
def test_a_wire_on_which_nothing_moves(strict: Pair, how: dict[str, Any]) -> None:
    guest = random_guest(4 * MIB)
    with SlowWire(strict.destination.address, 2000 * KBIT) as wire:
        name = strict.source.boot(guest)
        migration_id = strict.source.migrate(name, wire.address, **how)
        until(lambda: wire.carried_bytes > MIB // 2)
        wire.cut.set()
        status = strict.source.follow(migration_id)
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert "took nothing for 2 s" in status.error
    assert "--stall-timeout" in status.error
    if not how:
        assert_goes_on(strict.source, guest)
    strict.destination.assert_never_had(name)
    strict.forget_guests()
