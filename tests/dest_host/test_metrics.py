"""What a destination counts when something is refused, repeated or given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest

from dest_host.limits import Limits
from dest_host.receiver import Receiver
from paging_core.errors import PageferryError
from paging_core.units import FRAME_BYTES
from tests.dest_host.fake_guest import Clock, FakeFactory
from tests.dest_host.source import Source, arrived, batch_of
from wire.batch import Batch


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receiver(clock: Clock) -> Iterator[Receiver]:
    limits = Limits(max_payload_bytes=64 * FRAME_BYTES)
    receiver = Receiver(limits, FakeFactory(), now=clock)
    yield receiver
    receiver.close()


def counted(receiver: Receiver, family: str) -> dict[str, float]:
    """What is not 0, by the value of its one label."""
    return {
        value: sample.value
        for metric in receiver.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == f"pageferry_destination_{family}_total" and sample.value
        for value in sample.labels.values()
    }


def changed_without_a_word(source: Source) -> Batch:
    source.frames[17, 0] ^= 1
    return batch_of(source.frames, [17], 5, 2, unchanged=[17])


def of_a_larger_guest(_source: Source) -> Batch:
    return batch_of(Source(n_frames=301).frames, [300], 5, 2)


BAD: dict[str, Callable[[Source], Batch]] = {
    "corrupt": changed_without_a_word,
    "out_of_order": lambda source: batch_of(source.frames, [4], 6, 2),
    "outside_guest": of_a_larger_guest,
    "payload_size": lambda source: batch_of(source.frames, range(100), 5, 2),
    "other": lambda source: replace(
        batch_of(source.frames, [4], 5, 2), unchanged_digests=np.ones(1, np.uint64)
    ),
}


@pytest.mark.parametrize("reason", BAD)
def test_why_a_batch_was_refused(receiver: Receiver, reason: str) -> None:
    source = Source()
    arrived(receiver, source)
    with pytest.raises(PageferryError):
        receiver.accept("m-1", BAD[reason](source))
    assert counted(receiver, "batches_refused") == {reason: 1}


def test_a_proof_is_counted_by_the_question_that_ended_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source has the proof made, and may ask about it before that was answered."""
    source = Source()
    arrived(receiver, source)
    timed = receiver.metrics.verifying

    @contextmanager
    def overtaken() -> Iterator[None]:
        monkeypatch.setattr(receiver.metrics, "verifying", timed)
        with timed():
            yield
        assert receiver.compare("m-1", 2, [0], source.root) == []

    monkeypatch.setattr(receiver.metrics, "verifying", overtaken)
    assert receiver.compare("m-1", 0, [], b"") == []
    assert counted(receiver, "verifications") == {"equal": 1}


def test_a_batch_after_the_end(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    receiver.abort("m-1", "over")
    with pytest.raises(PageferryError):
        receiver.accept("m-1", batch_of(source.frames, [4], 5, 2))
    assert counted(receiver, "batches_refused") == {"illegal_transition": 1}


def test_what_became_of_commits(receiver: Receiver) -> None:
    source = Source()
    arrived(receiver, source)
    good = source.handover()
    for handover in (replace(good, memory_tag=bytes(16)), good, good, good):
        with suppress(PageferryError):
            receiver.commit("m-1", handover, start=False)
    assert counted(receiver, "handovers") == {"refused": 1, "taken": 1, "repeated": 2}
    assert counted(receiver, "migrations") == {"committed": 1}


def test_what_was_given_up(receiver: Receiver, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        receiver.prepare(Source(f"m-{name}", name).offer)
    for name in ("m-a", "m-a", "m-b", "m-nobody"):
        receiver.abort(name, "never mind")
    assert counted(receiver, "migrations") == {"aborted": 2}
    clock.now_s = 301
    for _ in range(2):
        receiver.expire()
    assert counted(receiver, "migrations") == {"aborted": 2, "expired": 1}
