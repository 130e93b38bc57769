"""A destination that runs out of something says no before a guest is its own, and never after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from dest_host.limits import Limits
from dest_host.receiver import Receiver
from dest_host.states import IncomingState
from paging_core.config import GuestConfig
from paging_core.errors import LimitExceeded
from paging_core.guest import Resume
from paging_core.memory import GuestMemory
from tests.dest_host.fake_guest import CONFIG, FakeFactory, FakeGuest
from tests.dest_host.source import Source, arrived
from tests.wire.test_room import MIB, Tree
from wire.hosting.guests.hosted import HostedGuest
from wire.hosting.guests.states import GuestState
from wire.hosting.room import HEADROOM_BYTES, OWN_BYTES, MemoryOfHost

N_FRAMES = 900
NEEDED_BYTES = N_FRAMES * 4096 * 33 // 32 + OWN_BYTES


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver(factory=FakeFactory())
    yield receiver
    receiver.close()


def in_a_cgroup(tmp_path: Path, limit_bytes: int) -> MemoryOfHost:
    tree = Tree(tmp_path)
    tree.mount(1, "/sys/fs/cgroup/memory")
    tree.join("4:memory:/host")
    tree.v1("sys/fs/cgroup/memory/host", limit_bytes, 0)
    return MemoryOfHost(tmp_path)


def test_an_arrival_that_would_have_the_host_killed(tmp_path: Path) -> None:
    room = in_a_cgroup(tmp_path, HEADROOM_BYTES + NEEDED_BYTES - 1)
    receiver = Receiver(Limits(max_total_bytes=100 * MIB), FakeFactory(), machine=room)
    with pytest.raises(LimitExceeded, match=r"cgroup .*host allows; raise its memory.limit_in_b"):
        receiver.prepare(Source("m-1", "g-1", N_FRAMES).offer)
    assert receiver.guests.all() == []
    receiver.close()


def test_the_smaller_of_what_it_was_told_and_what_there_is(tmp_path: Path) -> None:
    room = in_a_cgroup(tmp_path, 1000 * MIB)
    receiver = Receiver(Limits(max_total_bytes=N_FRAMES * 4096 - 1), FakeFactory(), machine=room)
    with pytest.raises(LimitExceeded, match="--max-total-memory"):
        receiver.prepare(Source("m-1", "g-1", N_FRAMES).offer)
    receiver.close()


class Slow(FakeFactory):
    """Gets ready for a guest when it may: until then it is promised memory and has none."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_go_on = Event(), Event()

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        self.asked.set()
        assert self.may_go_on.wait(30)
        return super().prepare(config, trace_digest)


def test_memory_that_is_promised_and_not_touched_yet_is_taken(tmp_path: Path) -> None:
    """The cgroup here never shows that it is used: only the promise keeps the second one out."""
    room = in_a_cgroup(tmp_path, HEADROOM_BYTES + NEEDED_BYTES + N_FRAMES * 4096 - 1)
    factory = Slow()
    receiver = Receiver(factory=factory, machine=room)
    first = Thread(target=receiver.prepare, args=(Source("m-1", "g-1", N_FRAMES).offer,))
    first.start()
    assert factory.asked.wait(30)
    with pytest.raises(LimitExceeded, match="cgroup"):
        receiver.prepare(Source("m-2", "g-2", N_FRAMES).offer)
    factory.may_go_on.set()
    first.join(30)
    # Now it is touched, and would stand in what the kernel counts as used.
    receiver.prepare(Source("m-3", "g-3", N_FRAMES).offer)
    receiver.close()


@contextmanager
def starved(monkeypatch: pytest.MonkeyPatch, what: object, name: str) -> Iterator[None]:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(what, name, none_left)
        yield


def test_memory_that_cannot_be_touched_is_not_kept(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[GuestMemory] = []
    close = GuestMemory.close

    def seen(memory: GuestMemory) -> None:
        closed.append(memory)
        close(memory)

    monkeypatch.setattr(GuestMemory, "close", seen)
    with starved(monkeypatch, GuestMemory, "populate"), pytest.raises(MemoryError):
        receiver.prepare(Source().offer)
    assert len(closed) == 1
    receiver.prepare(Source().offer)  # the name is free again


@pytest.mark.parametrize(("what", "name"), [(FakeGuest, "__init__"), (threading.Thread, "start")])
def test_a_commit_for_which_there_is_not_enough_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, what: object, name: str
) -> None:
    """In words that a source takes for a no; and when there is enough, it is taken."""
    source = Source()
    arrived(receiver, source)
    handover = source.handover()
    proof = receiver.incoming("m-1")._proved()
    receiver.compare("m-1", proof.top, [0], proof.root)
    with starved(monkeypatch, what, name), pytest.raises(LimitExceeded, match="ran out of memory"):
        receiver.commit("m-1", handover, start=True)
    assert receiver.guests.all() == []
    assert receiver.view("m-1").state is IncomingState.VERIFIED
    assert receiver.commit("m-1", handover, start=True).state is GuestState.RUNNING


@pytest.mark.parametrize("telling", ["outcome", "_handovers"])
def test_a_commit_that_was_carried_out_is_never_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, telling: str
) -> None:
    """Its source would go on with the guest as well."""
    source = Source()
    arrived(receiver, source)

    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    if telling == "outcome":
        monkeypatch.setattr(receiver.metrics, "outcome", broken)
    else:
        monkeypatch.setattr(receiver.metrics._handovers, "labels", broken)
    assert receiver.commit("m-1", source.handover(), start=False).state is GuestState.PAUSED
    assert receiver.view("m-1").state is IncomingState.COMMITTED


def test_a_guest_that_could_not_be_taken_in_does_not_run(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on at its source."""
    guest = FakeGuest(GuestMemory(300))
    before = [each for each in threading.enumerate() if each.name == "guest"]
    with starved(monkeypatch, HostedGuest, "view"), pytest.raises(MemoryError):
        receiver.guests.add("web", guest, CONFIG, start=True)
    position = guest.position
    assert receiver.guests.all() == []
    assert {each for each in threading.enumerate() if each.name == "guest"} <= set(before)
    assert guest.position == position
    guest.close()


def test_a_step_for_which_there_is_no_memory_is_no_crash(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.guests.add("web", FakeGuest(GuestMemory(300)), CONFIG)
    hosted = receiver.guests.get("web")
    with starved(monkeypatch, FakeGuest, "run_accesses"), pytest.raises(LimitExceeded):
        hosted.step(accesses=10)
    assert hosted.state is GuestState.PAUSED
    hosted.step(accesses=10)
    assert hosted.view().accesses == 10
