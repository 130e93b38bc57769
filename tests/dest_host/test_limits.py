"""What a destination takes: to the frame, for several that come at once, as its settings say."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from threading import Barrier, BrokenBarrierError, Thread

import pytest

from dest_host.limits import Limits
from dest_host.receiver import Receiver
from dest_host.settings import DestinationSettings
from paging_core.errors import AlreadyExists, LimitExceeded
from paging_core.units import FRAME_BYTES
from tests.dest_host.fake_guest import FakeFactory
from tests.dest_host.source import Source

MIB = 2**20


def test_what_fits_exactly_is_taken() -> None:
    limits = Limits(max_guest_bytes=2 * MIB, max_total_bytes=6 * MIB, max_incoming=2)
    limits.check_guest(2 * MIB, 4 * MIB, 1)
    with pytest.raises(LimitExceeded, match="--max-guest-memory"):
        limits.check_guest(2 * MIB + FRAME_BYTES, 0, 0)
    with pytest.raises(LimitExceeded, match="--max-total-memory"):
        limits.check_guest(2 * MIB, 4 * MIB + FRAME_BYTES, 0)
    with pytest.raises(LimitExceeded, match="--max-incoming"):
        limits.check_guest(2 * MIB, 4 * MIB, 2)


def test_every_limit_can_be_set() -> None:
    settings = DestinationSettings(
        max_guest_memory=1 * MIB,
        max_total_memory=3 * MIB,
        max_incoming=5,
        max_payload=7 * FRAME_BYTES,
        idle_expiry=11_500_000_000,
    )
    expected = Limits(1 * MIB, 3 * MIB, 5, 7 * FRAME_BYTES, 11.5)
    assert settings.limits() == expected
    default = Limits()
    for field in fields(Limits):
        assert getattr(expected, field.name) != getattr(default, field.name)


class Hesitating(Limits):
    """A call that was let in waits a moment for a second one to be let in as well."""

    meeting = Barrier(2)

    def check_guest(self, memory_bytes: int, reserved_bytes: int, incoming: int) -> None:
        super().check_guest(memory_bytes, reserved_bytes, incoming)
        with suppress(BrokenBarrierError):
            self.meeting.wait(1)


def test_memory_is_promised_once_to_two_that_come_at_the_same_time() -> None:
    receiver = Receiver(Hesitating(max_total_bytes=6 * MIB), FakeFactory())
    refused: list[LimitExceeded] = []

    def prepare(number: int) -> None:
        try:
            receiver.prepare(Source(f"m-{number}", f"g-{number}", 900).offer)
        except LimitExceeded as error:
            refused.append(error)

    threads = [Thread(target=prepare, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 1
    receiver.close()


def test_another_source_does_not_go_on_with_a_migration() -> None:
    """Its pages would become part of a guest that is not its own."""
    receiver = Receiver(factory=FakeFactory())
    offer = replace(Source().offer, owner="rack1")
    receiver.prepare(offer)
    with pytest.raises(AlreadyExists, match="'m-1' was prepared for another guest"):
        receiver.prepare(replace(offer, owner="rack2"))
    assert receiver.prepare(offer) == 0
    receiver.close()
