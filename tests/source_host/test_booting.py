"""A guest that boots has its name and its memory already."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from paging_core.config import GuestConfig
from paging_core.errors import AlreadyExists, LimitExceeded, UnknownWorkload
from paging_core.model_guest import ModelGuest
from wire.hosting.guests.guests import Guests

MIB = 2**20


def config(memory_bytes: int, workload: str = "idle") -> GuestConfig:
    return GuestConfig(memory_bytes, workload=workload)


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guests]:
    """A host of 12 MiB, on which a guest ``one`` of 8 MiB is in the middle of its boot."""
    guests = Guests(12 * MIB)
    booting, may_boot = Event(), Event()
    boot = ModelGuest.boot

    def slow(config: GuestConfig, *rest: Any, **more: Any) -> ModelGuest:
        booting.set()
        assert may_boot.wait(30)
        return boot(config, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ModelGuest, "boot", slow)
        thread = Thread(target=guests.create, args=("one", config(8 * MIB)))
        thread.start()
        assert booting.wait(30)
    yield guests
    may_boot.set()
    thread.join(30)
    assert "one" in [guest.guest_id for guest in guests.all()]
    guests.close()


def test_its_memory_is_promised(guests: Guests) -> None:
    with pytest.raises(LimitExceeded, match=r"4.0 MiB left of 12.0 MiB"):
        guests.create("two", config(8 * MIB))
    guests.create("two", config(4 * MIB))


def test_its_name_is_taken(guests: Guests) -> None:
    with pytest.raises(AlreadyExists, match="'one' is on this host already"):
        guests.create("one", config(MIB))


def test_a_boot_that_fails_leaves_nothing() -> None:
    guests = Guests(4 * MIB)
    with pytest.raises(UnknownWorkload):
        guests.create("one", config(4 * MIB, "none"))
    guests.create("one", config(4 * MIB))
