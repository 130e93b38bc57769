"""A migration at its destination, without a network between."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread
from weakref import ReferenceType, ref

import pytest

from dest_host.incoming import Handover
from dest_host.limits import Limits
from dest_host.metrics import DestinationMetrics
from dest_host.receiver import Receiver
from dest_host.states import IncomingState
from paging_core.config import GuestConfig
from paging_core.errors import (
    AlreadyExists,
    BadOption,
    BatchCorrupt,
    BatchOutOfOrder,
    FramesOutsideGuest,
    HostStopping,
    IllegalTransition,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PageferryError,
    UnknownWorkload,
    VerificationFailed,
)
from paging_core.guest import Guest, Resume
from paging_core.memory import GuestMemory
from paging_core.units import FRAME_BYTES
from tests.dest_host.fake_guest import CONFIG, Clock, FakeFactory, FakeGuest
from tests.dest_host.source import Source, arrived, batch_of, send
from tests.keyed import state_tag
from wire.hosting.guests.hosted import GuestView
from wire.hosting.guests.states import GuestState

MIB = 2**20


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory() -> FakeFactory:
    return FakeFactory()


@pytest.fixture
def receiver(factory: FakeFactory, clock: Clock) -> Iterator[Receiver]:
    limits = Limits(max_guest_bytes=4 * MIB, max_total_bytes=6 * MIB, max_incoming=3)
    receiver = Receiver(limits, factory, now=clock)
    yield receiver
    receiver.close()


def commit(receiver: Receiver, source: Source, *, start: bool = False) -> GuestView:
    return receiver.commit(source.offer.migration_id, source.handover(), start=start)


def state_of(receiver: Receiver, source: Source) -> IncomingState:
    return receiver.view(source.offer.migration_id).state


def incoming_bytes(receiver: Receiver, use: str = "incoming") -> float | None:
    return receiver.metrics.registry.get_sample_value(
        "pageferry_destination_memory_reserved_bytes", {"use": use}
    )


def test_a_guest_arrives_and_runs_on_like_its_twin(receiver: Receiver) -> None:
    source = Source()
    assert receiver.prepare(source.offer) == 0
    send(receiver, source)
    leaves = source.proof[1]
    assert receiver.compare("m-1", 1, range(len(leaves)), b"".join(leaves)) == []
    assert state_of(receiver, source) is IncomingState.RECEIVING  # until the root was compared
    assert receiver.compare("m-1", 2, [0], source.root) == []
    assert state_of(receiver, source) is IncomingState.VERIFIED
    view = commit(receiver, source)
    assert (view.state, view.accesses) == (GuestState.PAUSED, 1234)
    source.guest.run_accesses(1000)
    moved = receiver.guests.get("web")
    moved.step(accesses=1000)
    after = moved.view(with_digest=True)
    assert after.accesses == source.guest.position
    assert after.memory_digest == source.digest


def test_later_rounds_overwrite_earlier_ones(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    source.guest.run_accesses(40)
    source.frames[7] = 0
    again = [*range(7, 80)]
    receiver.accept("m-1", batch_of(source.frames, again, 5, 2, unchanged=[9], end_of_round=True))
    view = receiver.view("m-1")
    assert (view.next_sequence, view.received_frames) == (6, 300 + 73)
    commit(receiver, source)
    assert receiver.guests.get("web").view(with_digest=True).memory_digest == source.digest


def test_a_difference_is_found_by_walking_down(receiver: Receiver) -> None:
    source = Source(n_frames=1024)
    arrived(receiver, source)
    source.frames[513, 9] ^= 1
    source.frames[600, 4095] ^= 128
    frames, leaves, (root,) = source.proof
    assert receiver.compare("m-1", 2, [0], root) == [0]
    assert receiver.compare("m-1", 1, range(32), b"".join(leaves)) == [16, 18]
    below = [*range(512, 544), *range(576, 608)]
    assert receiver.compare("m-1", 0, below, b"".join(frames[i] for i in below)) == [513, 600]
    assert state_of(receiver, source) is IncomingState.RECEIVING
    with pytest.raises(VerificationFailed, match="compare digests"):
        commit(receiver, source)
    value = receiver.metrics.registry.get_sample_value
    assert value("pageferry_destination_verifications_total", {"result": "different"}) == 0
    receiver.abort("m-1", "memory differs")
    assert value("pageferry_destination_verifications_total", {"result": "different"}) == 1
    assert value("pageferry_destination_verifications_total", {"result": "equal"}) == 0


def test_a_difference_that_is_repaired_is_no_failure(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    source.frames[7, 7] ^= 1
    assert receiver.compare("m-1", 2, [0], source.root) == [0]
    receiver.accept("m-1", batch_of(source.frames, [7], 5, 2, end_of_round=True))
    assert receiver.compare("m-1", 2, [0], source.root) == []
    commit(receiver, source)
    value = receiver.metrics.registry.get_sample_value
    results = {
        result: value("pageferry_destination_verifications_total", {"result": result})
        for result in ("equal", "repaired", "different")
    }
    assert results == {"equal": 0, "repaired": 1, "different": 0}


@pytest.mark.parametrize(
    ("level", "nodes", "n_tags", "says"),
    [
        (3, [0], 1, "ends at level 2"),
        (2**32 - 1, [0], 1, "ends at level 2"),
        (2, [1], 1, "nodes 0 to 0"),
        (1, [9, 10], 2, "nodes 0 to 9"),
        (0, [299, 300], 2, "nodes 0 to 299"),
        (0, [2**64 - 1], 1, "nodes 0 to 299"),
        (0, [5, 5], 2, "ascending"),
        (0, [6, 5], 2, "ascending"),
        (0, range(300), 299, "bytes of tags"),
        (0, [1], 2, "bytes of tags"),
        (0, [], 1, "0 nodes"),
        (0, range(4097), 4097, "at a time"),
    ],
)
def test_questions_that_cannot_be(
    receiver: Receiver, level: int, nodes: Sequence[int], n_tags: int, says: str
) -> None:
    arrived(receiver, Source())
    with pytest.raises(BadOption, match=says):
        receiver.compare("m-1", level, nodes, bytes(16 * n_tags))


def test_a_question_without_nodes_compares_nothing(receiver: Receiver) -> None:
    source = Source()
    receiver.prepare(source.offer)
    with pytest.raises(IllegalTransition, match="send its memory first"):
        receiver.compare("m-1", 0, [], b"")
    send(receiver, source)
    assert receiver.compare("m-1", 0, [], b"") == []
    assert state_of(receiver, source) is IncomingState.RECEIVING


def test_pages_after_a_comparison_are_compared_again(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    root = source.root
    assert receiver.compare("m-1", 2, [0], root) == []
    source.guest.run_accesses(1)
    changed = source.guest.position % 300 - 1
    receiver.accept("m-1", batch_of(source.frames, [changed], 5, 2))
    assert state_of(receiver, source) is IncomingState.RECEIVING
    assert receiver.compare("m-1", 2, [0], root) == [0]
    commit(receiver, source)


def test_a_batch_out_of_order(receiver: Receiver) -> None:
    source = Source()
    receiver.prepare(source.offer)
    first, second, *_ = source.batches()
    with pytest.raises(BatchOutOfOrder, match="batch 1 came where 0 is due"):
        receiver.accept("m-1", second)
    receiver.accept("m-1", first)
    with pytest.raises(BatchOutOfOrder, match="go on with 1"):
        receiver.accept("m-1", first)
    with pytest.raises(BatchOutOfOrder, match="round"):
        receiver.accept("m-1", replace(second, round=0))
    receiver.accept("m-1", second)


def test_frames_outside_the_guest(receiver: Receiver) -> None:
    receiver.prepare(Source().offer)
    larger = Source(n_frames=301)
    with pytest.raises(FramesOutsideGuest, match="guest has 300 frames"):
        receiver.accept("m-1", batch_of(larger.frames, [300], 0))


def test_unchanged_frames_that_changed_are_named(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    source.frames[17, 0] ^= 1
    source.frames[33, 0] ^= 1
    with pytest.raises(BatchCorrupt, match=r"2 frames unchanged.*0x11, 0x21"):
        receiver.accept("m-1", batch_of(source.frames, [17, 18, 33], 5, 2, unchanged=[17, 18, 33]))
    assert receiver.view("m-1").next_sequence == 5
    receiver.accept("m-1", batch_of(source.frames, [17, 18, 33], 5, 2, unchanged=[18]))
    commit(receiver, source)


def test_committing_twice_answers_like_the_first_time(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    first = commit(receiver, source)
    receiver.guests.get("web").step(accesses=5)
    assert commit(receiver, source) == first
    assert receiver.guests.get("web").view().accesses == first.accesses + 5


def test_a_commit_that_starts_the_guest(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    assert commit(receiver, source, start=True).state is GuestState.RUNNING


def test_two_commits_at_the_same_time_make_one_guest(
    receiver: Receiver, factory: FakeFactory
) -> None:
    source = Source()
    arrived(receiver, source)
    factory.may_resume.clear()
    answers: list[GuestView] = []
    threads = [Thread(target=lambda: answers.append(commit(receiver, source))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert factory.resuming.wait(30)
    assert receiver.guests.all() == []
    factory.may_resume.set()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 2
    assert answers[0] == answers[1]


class Interfering(DestinationMetrics):
    """An operator who acts as soon as a guest was taken over, before that is answered."""

    meddle: Callable[[], object]

    def outcome(self, migration_id: str, outcome: str) -> None:
        super().outcome(migration_id, outcome)
        with suppress(IllegalTransition):
            self.meddle()


MEDDLING: dict[str, Callable[[Receiver], object]] = {
    "delete": lambda receiver: receiver.guests.delete("web"),
    "start": lambda receiver: receiver.guests.get("web").start(),
    "pause": lambda receiver: receiver.guests.get("web").pause(),
}


@pytest.mark.parametrize("meddle", MEDDLING)
def test_a_commit_that_was_carried_out_is_answered(factory: FakeFactory, meddle: str) -> None:
    """An error would have the source go on with a guest that is here, too."""
    metrics = Interfering()
    receiver = Receiver(factory=factory, metrics=metrics)
    metrics.meddle = lambda: MEDDLING[meddle](receiver)
    source = Source()
    arrived(receiver, source)
    first = commit(receiver, source, start=meddle != "delete")
    assert commit(receiver, source) == first
    assert state_of(receiver, source) is IncomingState.COMMITTED
    receiver.close()


def test_a_name_that_was_taken_meanwhile_refuses_the_commit(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    receiver.guests.add("web", FakeGuest(GuestMemory(300)), CONFIG)
    with pytest.raises(AlreadyExists):
        commit(receiver, source, start=True)
    assert state_of(receiver, source) is not IncomingState.COMMITTED
    receiver.guests.delete("web")
    assert commit(receiver, source).state is GuestState.PAUSED


def test_after_commit_nothing_undoes_it(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    commit(receiver, source)
    with pytest.raises(IllegalTransition, match="committed"):
        receiver.abort("m-1", "too late")
    with pytest.raises(IllegalTransition, match="committed and cannot take pages"):
        receiver.accept("m-1", batch_of(source.frames, [0], 5, 2))
    with pytest.raises(IllegalTransition, match="committed"):
        receiver.attach("m-1", 5)
    with pytest.raises(IllegalTransition, match="committed"):
        receiver.prepare(source.offer)
    assert receiver.guests.get("web").view().state is GuestState.PAUSED


def test_an_aborted_migration_is_never_committed(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    receiver.abort("m-1", "the guest stays")
    receiver.abort("m-1", "again")
    assert receiver.view("m-1").message == "the guest stays"
    assert incoming_bytes(receiver) == 0
    for step in (lambda: commit(receiver, source), lambda: receiver.prepare(source.offer)):
        with pytest.raises(IllegalTransition, match="aborted"):
            step()
    assert receiver.guests.all() == []


def test_an_abort_that_overtakes_its_prepare(receiver: Receiver) -> None:
    source = Source()
    receiver.abort("m-1", "the source gave up")
    assert state_of(receiver, source) is IncomingState.ABORTED
    receiver.abort("m-1", "again")
    with pytest.raises(IllegalTransition, match="the source gave up"):
        receiver.prepare(source.offer)
    with pytest.raises(IllegalTransition):
        commit(receiver, source)


def test_aborts_of_what_was_never_prepared_are_not_remembered_for_ever(receiver: Receiver) -> None:
    for number in range(5000):
        receiver.abort(f"m-{number}", "never mind")
    assert receiver.view("m-4999").state is IncomingState.ABORTED
    with pytest.raises(NotFound):
        receiver.view("m-0")


def test_what_one_source_has_refused_in_advance_concerns_no_other(receiver: Receiver) -> None:
    receiver.abort("m-1", "never mind", "rack2")
    with pytest.raises(IllegalTransition, match="never mind"):
        receiver.prepare(replace(Source().offer, owner="rack2"))
    with pytest.raises(NotFound):
        receiver.view("m-1", "rack1")
    assert receiver.prepare(replace(Source().offer, owner="rack1")) == 0
    for number in range(5000):
        receiver.abort(f"n-{number}", "flooding", "rack1")
    assert receiver.view("m-1", "rack2").state is IncomingState.ABORTED


def test_outcomes_of_one_source_are_not_forgotten_for_another(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dest_host.receiver._REMEMBERED", 2)
    mine = Source("mine")
    receiver.prepare(replace(mine.offer, owner="rack1"))
    receiver.abort("mine", "never mind")
    for number in range(6):
        theirs = Source(f"theirs-{number}", "db")
        receiver.prepare(replace(theirs.offer, owner="rack2"))
        receiver.abort(theirs.offer.migration_id, "never mind")
    assert receiver.view("mine").state is IncomingState.ABORTED
    with pytest.raises(NotFound):
        receiver.view("theirs-0")


def test_nothing_is_taken_in_by_a_host_that_stops(receiver: Receiver) -> None:
    """A guest that was committed to it now would be lost with it."""
    source = Source()
    arrived(receiver, source)
    receiver.abort_all("the destination host stops")
    with pytest.raises(IllegalTransition, match="stops"):
        commit(receiver, source)
    with pytest.raises(HostStopping):
        receiver.prepare(Source("m-2").offer)
    assert receiver.guests.all() == []


def test_each_life_of_a_host_has_an_identity_of_its_own() -> None:
    drawn = {Receiver(factory=FakeFactory()).host_id for _ in range(20)}
    assert len(drawn) == 20
    assert all(len(host_id) >= 32 for host_id in drawn)


def test_a_commit_is_not_forgotten_while_its_guest_is_here(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source in doubt that was told of no such migration would go on with the guest."""
    monkeypatch.setattr("dest_host.receiver._REMEMBERED", 2)
    taken = Source()
    arrived(receiver, taken)
    commit(receiver, taken)
    for number in range(2, 8):
        other = Source(f"m-{number}", "db")
        receiver.prepare(other.offer)
        receiver.abort(other.offer.migration_id, "never mind")
    assert state_of(receiver, taken) is IncomingState.COMMITTED
    assert state_of(receiver, other) is IncomingState.ABORTED
    with pytest.raises(NotFound):
        receiver.view("m-2")


def test_nothing_is_committed_before_it_arrived(receiver: Receiver) -> None:
    source = Source()
    receiver.prepare(source.offer)
    with pytest.raises(IllegalTransition, match="send its memory first"):
        commit(receiver, source)
    with pytest.raises(NotFound, match="'m-2'"):
        commit(receiver, Source("m-2"))
    with pytest.raises(NotFound):
        receiver.view("m-2")


BAD_HANDOVERS: dict[str, tuple[dict[str, object], type[PageferryError]]] = {
    "memory": ({"memory_tag": bytes(16)}, VerificationFailed),
    "state": ({"state": b"{}"}, BatchCorrupt),
    "no state": ({"state": b"x", "state_tag": state_tag(b"x")}, InvalidInput),
    "no tags": ({"memory_tag": b"", "state_tag": b""}, BatchCorrupt),
}


@pytest.mark.parametrize("name", BAD_HANDOVERS)
def test_a_refused_commit_leaves_the_migration_as_it_was(receiver: Receiver, name: str) -> None:
    changes, error = BAD_HANDOVERS[name]
    source = Source()
    arrived(receiver, source)
    bad: Handover = replace(source.handover(), **changes)  # type: ignore[arg-type]
    with pytest.raises(error):
        receiver.commit("m-1", bad, start=True)
    assert receiver.guests.all() == []
    assert receiver.view("m-1").next_sequence == 5
    commit(receiver, source)


def test_a_commit_that_hits_a_bug_is_not_committed(
    receiver: Receiver, factory: FakeFactory
) -> None:
    source = Source()
    arrived(receiver, source)
    factory.broken = True
    with pytest.raises(ZeroDivisionError):
        commit(receiver, source)
    assert state_of(receiver, source) is IncomingState.VERIFIED
    assert receiver.guests.all() == []
    receiver.abort("m-1", "a bug over there")


def test_a_guest_that_broke_off_may_come_again(receiver: Receiver) -> None:
    """Its source was started again, and knows nothing of the first migration any more."""
    first, again = Source("m-1"), Source("m-2")
    receiver.prepare(first.offer)
    incoming, old = receiver.attach("m-1", 0)
    with pytest.raises(AlreadyExists, match="--idle-expiry"):
        receiver.prepare(again.offer)
    incoming.stream_ended(old, broken=True)
    _, new = receiver.attach("m-1", 0)
    incoming.stream_ended(old, broken=True)  # which nobody listens to any more
    with pytest.raises(AlreadyExists):
        receiver.prepare(again.offer)
    incoming.stream_ended(new, broken=True)
    with pytest.raises(AlreadyExists):
        receiver.prepare(replace(again.offer, owner="another source"))
    assert incoming.is_open
    receiver.prepare(again.offer)
    assert state_of(receiver, first) is IncomingState.ABORTED
    assert "came again" in receiver.view("m-1").message
    assert state_of(receiver, again) is IncomingState.PREPARED


def test_a_commit_that_is_due_is_waited_for(receiver: Receiver, clock: Clock) -> None:
    """The same guest may come of another source; one that is never committed is not in the way."""
    first, again = Source("m-1"), Source("m-2")
    arrived(receiver, first)
    incoming, stream = receiver.attach("m-1", receiver.view("m-1").next_sequence)
    incoming.stream_ended(stream, broken=False)
    with pytest.raises(AlreadyExists):
        receiver.prepare(again.offer)
    clock.now_s += 11
    receiver.prepare(again.offer)
    assert state_of(receiver, first) is IncomingState.ABORTED


def test_a_committed_guest_does_not_come_again(receiver: Receiver) -> None:
    """However its stream ended."""
    source = Source()
    receiver.prepare(source.offer)
    incoming, stream = receiver.attach("m-1", 0)
    for batch in source.batches():
        incoming.accept(batch, stream)
    commit(receiver, source)
    incoming.stream_ended(stream, broken=True)
    with pytest.raises(AlreadyExists):
        receiver.prepare(Source("m-2").offer)
    assert state_of(receiver, source) is IncomingState.COMMITTED


def test_a_transfer_goes_on_where_it_was_cut_off(receiver: Receiver) -> None:
    source = Source()
    receiver.prepare(source.offer)
    incoming, old = receiver.attach("m-1", 0)
    first, second, *_ = source.batches()
    incoming.accept(first, old)
    assert receiver.prepare(source.offer) == 1
    with pytest.raises(BatchOutOfOrder, match="go on with 1"):
        receiver.attach("m-1", 0)
    _, new = receiver.attach("m-1", 1)
    with pytest.raises(IllegalTransition, match="another stream"):
        incoming.accept(second, old)
    for batch in source.batches(first_sequence=1):
        incoming.accept(batch, new)
    commit(receiver, source)


def test_preparing_again_with_another_guest(receiver: Receiver) -> None:
    receiver.prepare(Source().offer)
    with pytest.raises(AlreadyExists, match="m-1"):
        receiver.prepare(Source(n_frames=301).offer)


def test_a_guest_of_that_name_is_coming_or_here(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    with pytest.raises(AlreadyExists, match="under way"):
        receiver.prepare(Source("m-2").offer)
    commit(receiver, source)
    with pytest.raises(AlreadyExists, match="on this host already"):
        receiver.prepare(Source("m-2").offer)
    receiver.guests.delete("web")
    receiver.prepare(Source("m-2").offer)


def test_a_guest_larger_than_the_host_allows(receiver: Receiver) -> None:
    with pytest.raises(LimitExceeded, match=r"4.0 MiB.*--max-guest-memory"):
        receiver.prepare(Source(n_frames=1025).offer)


def test_memory_is_promised_once_and_given_back(receiver: Receiver) -> None:
    receiver.prepare(Source("m-1", "a", 900).offer)
    with pytest.raises(LimitExceeded, match=r"2.5 MiB.*--max-total-memory"):
        receiver.prepare(Source("m-2", "b", 900).offer)
    receiver.abort("m-1", "")
    source = Source("m-2", "b", 900)
    arrived(receiver, source)
    assert incoming_bytes(receiver) == 900 * FRAME_BYTES
    commit(receiver, source)
    assert incoming_bytes(receiver) == 0
    assert incoming_bytes(receiver, "guest") == 900 * FRAME_BYTES
    with pytest.raises(LimitExceeded):
        receiver.prepare(Source("m-3", "c", 900).offer)
    receiver.guests.delete("b")
    receiver.prepare(Source("m-3", "c", 900).offer)


class Building(FakeFactory):
    """Tells of each guest that it is asked to get ready, and of what it made for it.

    Attributes:
        meddle: called meanwhile.
        made: dead once nobody holds it any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.meddle: Callable[[], object] = lambda: None
        self.made: list[ReferenceType[Resume]] = []

    def prepare(self, config: GuestConfig, trace_digest: int) -> Resume:
        self.asked.append(config.n_frames)
        self.meddle()
        make = super().prepare(config, trace_digest)

        def resume(memory: GuestMemory, state: bytes) -> Guest:
            return make(memory, state)

        self.made.append(ref(resume))
        return resume


@pytest.fixture
def building() -> Building:
    return Building()


@pytest.fixture
def builder(building: Building) -> Iterator[Receiver]:
    receiver = Receiver(Limits(max_guest_bytes=4 * MIB, max_total_bytes=6 * MIB), building)
    yield receiver
    receiver.close()


def test_nothing_is_built_for_a_guest_that_does_not_fit(
    builder: Receiver, building: Building
) -> None:
    for refused in (Source(n_frames=1025), Source("m-2", "b", 900)):
        with pytest.raises(LimitExceeded):
            builder.prepare(refused.offer)
        if not building.asked:
            builder.prepare(Source("m-1", "a", 900).offer)
    assert building.asked == [900]


def test_room_is_promised_while_a_guest_is_being_built(
    builder: Receiver, building: Building
) -> None:
    refusals: list[str] = []

    def another() -> None:
        with pytest.raises(LimitExceeded) as refused:
            builder.prepare(Source("m-2", "b", 900).offer)
        refusals.append(str(refused.value))

    building.meddle = another
    builder.prepare(Source("m-1", "a", 900).offer)
    assert len(refusals) == 1
    assert building.asked == [900]


def test_an_abort_while_a_guest_is_being_built_leaves_nothing(
    builder: Receiver, building: Building
) -> None:
    source = Source()
    building.meddle = lambda: builder.abort("m-1", "the source gave up")
    with pytest.raises(IllegalTransition, match=r"aborted \(the source gave up\)"):
        builder.prepare(source.offer)
    assert state_of(builder, source) is IncomingState.ABORTED
    gc.collect()
    assert [one() for one in building.made] == [None]
    building.meddle = lambda: None
    with pytest.raises(IllegalTransition, match="aborted"):
        builder.prepare(source.offer)
    builder.prepare(Source("m-2").offer)


def test_what_was_built_is_given_up_with_the_outcome(builder: Receiver, building: Building) -> None:
    committed, aborted = Source("m-1", "a"), Source("m-2", "b")
    arrived(builder, committed)
    commit(builder, committed)
    builder.prepare(aborted.offer)
    assert building.made[1]() is not None
    builder.abort("m-2", "the guest stays")
    gc.collect()
    assert [one() for one in building.made] == [None, None]


def test_only_so_many_at_a_time(receiver: Receiver) -> None:
    for i in range(3):
        receiver.prepare(Source(f"m-{i}", f"g-{i}").offer)
    with pytest.raises(LimitExceeded, match=r"3 migrations at a time.*--max-incoming"):
        receiver.prepare(Source("m-3", "g-3").offer)
    receiver.abort("m-1", "")
    receiver.prepare(Source("m-3", "g-3").offer)


def test_a_guest_that_this_host_cannot_run_reserves_nothing(receiver: Receiver) -> None:
    offer = Source().offer
    with pytest.raises(UnknownWorkload):
        receiver.prepare(replace(offer, config=replace(offer.config, workload="none")))
    assert incoming_bytes(receiver) == 0
    receiver.prepare(offer)


def test_a_silent_source_is_given_up(receiver: Receiver, clock: Clock) -> None:
    source = Source()
    receiver.prepare(source.offer)
    first, second, *_ = source.batches()
    clock.now_s = 290
    receiver.accept("m-1", first)
    clock.now_s = 580
    receiver.expire()
    assert state_of(receiver, source) is IncomingState.RECEIVING
    clock.now_s = 591
    receiver.expire()
    assert state_of(receiver, source) is IncomingState.ABORTED
    assert incoming_bytes(receiver) == 0
    with pytest.raises(IllegalTransition, match="nothing was heard of the source for 300 s"):
        receiver.accept("m-1", second)
    with pytest.raises(IllegalTransition):
        commit(receiver, source)


def test_a_committed_guest_never_expires(receiver: Receiver, clock: Clock) -> None:
    source = Source()
    arrived(receiver, source)
    commit(receiver, source)
    clock.now_s = 10**6
    receiver.expire()
    assert receiver.guests.get("web").view().state is GuestState.PAUSED


def test_a_commit_under_way_does_not_expire(
    receiver: Receiver, factory: FakeFactory, clock: Clock
) -> None:
    source = Source()
    arrived(receiver, source)
    factory.may_resume.clear()
    committing = Thread(target=lambda: commit(receiver, source))
    committing.start()
    assert factory.resuming.wait(30)
    clock.now_s = 10**6
    receiver.expire()
    factory.may_resume.set()
    committing.join(30)
    assert state_of(receiver, source) is IncomingState.COMMITTED


def test_what_is_counted(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    receiver.accept("m-1", batch_of(source.frames, [4, 5], 5, 2, unchanged=[4, 5]))
    with pytest.raises(BatchOutOfOrder):
        receiver.accept("m-1", batch_of(source.frames, [4, 5], 5, 2))
    commit(receiver, source)
    value = receiver.metrics.registry.get_sample_value
    prefix = "pageferry_destination_"
    by_kind = [
        value(f"{prefix}frames_total", {"kind": kind}) for kind in ("data", "zero", "unchanged")
    ]
    assert by_kind == [200, 100, 2]
    assert value(f"{prefix}received_bytes_total", {"form": "raw"}) == 302 * FRAME_BYTES
    assert value(f"{prefix}batch_seconds_count") == 6
    assert value(f"{prefix}batches_refused_total", {"reason": "out_of_order"}) == 1
    assert value(f"{prefix}migrations_total", {"outcome": "committed"}) == 1
    assert value(f"{prefix}guests", {"state": "paused"}) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"max_payload_bytes": 100},
        {"max_payload_bytes": 2**30},
        {"max_guest_bytes": 0},
        {"max_incoming": 0},
        {"idle_expiry_s": 0.0},
    ],
)
def test_limits_that_cannot_be(bad: dict[str, int]) -> None:
    with pytest.raises(BadOption):
        Limits(**bad)


def test_an_abort_does_not_wait_for_memory_that_is_still_touched(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, touching = Source(), Event()

    def endless(_memory: GuestMemory, look_up: Callable[[], None]) -> None:
        while True:
            touching.set()
            look_up()

    monkeypatch.setattr(GuestMemory, "populate", endless)
    said: list[PageferryError] = []

    def prepare() -> None:
        try:
            receiver.prepare(source.offer)
        except PageferryError as error:
            said.append(error)

    preparing = Thread(target=prepare, daemon=True)
    preparing.start()
    assert touching.wait(30)
    aborting = Thread(target=receiver.abort, args=(source.offer.migration_id, "cancelled"))
    aborting.start()
    for thread in (aborting, preparing):
        thread.join(30)
        assert not thread.is_alive()
    assert isinstance(said[0], IllegalTransition)
    assert receiver.view(source.offer.migration_id).state is IncomingState.ABORTED
