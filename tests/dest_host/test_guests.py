"""Guests that were taken over: run, paused, stepped, crashed, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest

from paging_core.errors import (
    AlreadyExists,
    GuestOutOfMemory,
    IllegalTransition,
    MigrationCancelled,
    NotFound,
)
from paging_core.memory import GuestMemory
from tests.dest_host.fake_guest import ACCESS_NS, CONFIG, FakeGuest
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.hosted import HostedGuest
from wire.hosting.guests.states import GuestState


@pytest.fixture
def guests() -> Iterator[Guests]:
    guests = Guests()
    yield guests
    guests.close()


@pytest.fixture
def web(guests: Guests) -> HostedGuest:
    guests.add("web", FakeGuest(GuestMemory(300)), CONFIG)
    return guests.get("web")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_guest_runs_beside_everything_else_and_stands_still_when_paused(web: HostedGuest) -> None:
    assert web.view().state is GuestState.PAUSED
    web.start()
    until(lambda: web.view().accesses > 100)
    web.pause()
    paused = web.view(with_digest=True)
    assert paused.state is GuestState.PAUSED
    assert web.view(with_digest=True) == paused
    web.start()
    until(lambda: web.view().accesses > paused.accesses)


def test_steps_are_exact(web: HostedGuest) -> None:
    web.step(accesses=17)
    assert web.view().accesses == 17
    web.step(duration_ns=5 * ACCESS_NS)
    assert web.view().time_ns == 22 * ACCESS_NS
    web.step(accesses=0)
    assert web.view().accesses == 22


def test_a_long_step_ends_when_its_caller_left(web: HostedGuest) -> None:
    answers = iter([True, True, False])
    with pytest.raises(MigrationCancelled):
        web.step(accesses=10**12, keep_going=lambda: next(answers))
    assert web.view().state is GuestState.PAUSED
    assert 0 < web.view().accesses < 10**12


def test_looking_does_not_wait_for_a_step(guests: Guests, web: HostedGuest) -> None:
    """A step may take hours; metrics and lists are asked for every few seconds."""
    stepping, looked = Event(), Event()

    def wanted() -> bool:
        stepping.set()
        return looked.wait(30)

    step = Thread(target=lambda: web.step(accesses=2**24, keep_going=wanted))
    step.start()
    try:
        assert stepping.wait(30)
        looks: list[object] = []

        def look() -> None:
            looks.extend([web.state, web.view(), [one.view() for one in guests.all()]])
            looked.set()

        Thread(target=look, daemon=True).start()
        assert looked.wait(10)
    finally:
        looked.set()
        step.join(30)
    assert len(looks) == 3


def test_what_is_not_possible_now(web: HostedGuest) -> None:
    with pytest.raises(IllegalTransition, match="'web' is paused"):
        web.pause()
    web.start()
    with pytest.raises(IllegalTransition, match="'web' is running"):
        web.start()
    with pytest.raises(IllegalTransition, match="only a paused guest"):
        web.step(accesses=1)


def test_a_guest_that_crashes_while_it_is_stepped(guests: Guests) -> None:
    guests.add("db", FakeGuest(GuestMemory(300), crash_at=10), CONFIG)
    hosted = guests.get("db")
    with pytest.raises(GuestOutOfMemory):
        hosted.step(accesses=20)
    view = hosted.view()
    assert (view.state, view.accesses) == (GuestState.CRASHED, 10)
    assert "no free frame" in view.message
    with pytest.raises(IllegalTransition, match="crashed"):
        hosted.start()


def test_a_guest_that_crashes_while_it_runs(guests: Guests) -> None:
    guests.add("db", FakeGuest(GuestMemory(300), crash_at=10), CONFIG)
    hosted = guests.get("db")
    hosted.start()
    until(lambda: hosted.state is GuestState.CRASHED)
    assert "no free frame" in hosted.view().message
    with pytest.raises(IllegalTransition, match="crashed"):
        hosted.pause()


class Broken(FakeGuest):
    """A bug stops it at its tenth access."""

    def run_accesses(self, count: int) -> None:
        super().run_accesses(count)
        if self.position >= 10:
            raise OverflowError("int too large to convert")


def test_a_guest_that_a_bug_stops_has_crashed_and_is_deleted(guests: Guests) -> None:
    guests.add("runs", Broken(GuestMemory(300)), CONFIG, start=True)
    guests.add("steps", Broken(GuestMemory(300)), CONFIG)
    hosted = guests.get("runs")
    until(lambda: hosted.state is GuestState.CRASHED)
    with pytest.raises(OverflowError):
        guests.get("steps").step(accesses=20)
    for name in ("runs", "steps"):
        view = guests.get(name).view(with_digest=True)
        assert view.state is GuestState.CRASHED
        assert "a bug in pageferry stopped it: OverflowError('int too large" in view.message
        assert guests.delete(name).state is GuestState.CRASHED


def test_names(guests: Guests, web: HostedGuest) -> None:
    assert guests.get("web") is web
    with pytest.raises(AlreadyExists, match="'web'"):
        guests.add("web", FakeGuest(GuestMemory(300)), CONFIG)
    with pytest.raises(NotFound, match="no guest 'db' on this host"):
        guests.get("db")


def test_a_deleted_guest_is_gone_with_its_memory_and_its_thread(
    guests: Guests, web: HostedGuest
) -> None:
    web.start()
    assert guests.memory_bytes == 300 * 4096
    assert guests.delete("web").state is GuestState.RUNNING
    assert guests.memory_bytes == 0
    with pytest.raises(NotFound):
        guests.delete("web")
    guests.add("web", FakeGuest(GuestMemory(300)), CONFIG)
