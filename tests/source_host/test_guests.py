"""The guests of a source host: what must not happen to one at the same time."""

from __future__ import annotations

import pytest

from paging_core.config import GuestConfig
from paging_core.errors import AlreadyExists, BadOption, IllegalTransition, NotFound
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.hosted import HostedGuest

MIB = 2**20


@pytest.fixture
def guests() -> Guests:
    return Guests(max_memory_bytes=4 * MIB)


@pytest.fixture
def web(guests: Guests) -> HostedGuest:
    return guests.create("web", GuestConfig(2 * MIB, workload="idle"))


def test_a_guest_that_a_call_works_on_is_not_deleted(guests: Guests, web: HostedGuest) -> None:
    looked = []

    def delete() -> bool:
        with pytest.raises(IllegalTransition, match="another call works on it"):
            guests.delete("web")
        looked.append(guests.get("web"))
        return True

    web.step(accesses=1, keep_going=delete)
    assert looked == [web]
    guests.delete("web")
    with pytest.raises(NotFound):
        guests.get("web")


def test_a_guest_that_is_migrated_is_not_deleted(guests: Guests, web: HostedGuest) -> None:
    web.claim("web-1")
    with pytest.raises(IllegalTransition, match="while migration 'web-1' needs it"):
        guests.delete("web")
    web.release()
    guests.delete("web")


def test_a_guest_that_was_deleted_is_not_migrated(guests: Guests, web: HostedGuest) -> None:
    """Somebody who found it just before it was deleted."""
    guests.delete("web")
    with pytest.raises(IllegalTransition, match="not here"):
        web.claim("web-1")
    assert web.memory_bytes == 0


def test_names(guests: Guests, web: HostedGuest) -> None:
    config = GuestConfig(MIB, workload="idle")
    for name in ("", "a b", "web\n", "-web", "w" * 65, "../web"):
        with pytest.raises(BadOption, match="1 to 64 letters"):
            guests.create(name, config)
    with pytest.raises(AlreadyExists):
        guests.create(web.guest_id, config)
    guests.create("w" * 64, config)
