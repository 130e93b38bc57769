"""Messages as they come over a wire, handed to the receiver without one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dest_host.receiver import Receiver
from dest_host.states import IncomingState
from pageferry.v1.destination_pb2 import PageBatch, TransferMessage
from paging_core.errors import IllegalTransition, PageferryError
from tests.dest_host.fake_guest import FakeFactory
from tests.dest_host.source import Source
from tests.journey.tamper import TAMPERED
from wire.batch import Batch
from wire.codec import RawBatch, decode_transfer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver(factory=FakeFactory())
    yield receiver
    receiver.close()


def raw(batch: PageBatch) -> RawBatch:
    message = decode_transfer(TransferMessage(batch=batch).SerializeToString())
    assert isinstance(message, RawBatch)
    return message


def messages(source: Source) -> list[PageBatch]:
    return [batch.to_message() for batch in source.batches()]


def counted(receiver: Receiver, name: str, **labels: str) -> float | None:
    return receiver.metrics.registry.get_sample_value(f"pageferry_destination_{name}", labels)


def refused(receiver: Receiver) -> float:
    reasons = ("corrupt", "out_of_order", "outside_guest", "payload_size", "illegal_transition")
    counts = [counted(receiver, "batches_refused_total", reason=reason) for reason in reasons]
    return sum(count or 0 for count in [*counts, counted(receiver, "batches_refused_total",
                                                         reason="other")])  # fmt: skip


@pytest.mark.parametrize("wrong", TAMPERED)
def test_a_bad_message_changes_nothing(receiver: Receiver, wrong: str) -> None:
    tamper, status = TAMPERED[wrong]
    source = Source()
    receiver.prepare(source.offer)
    incoming, stream = receiver.attach("m-1", 0)
    first, second, *rest = messages(source)
    receiver.take(incoming, raw(first), stream)
    memory = incoming._standing().frames.copy()
    bad = PageBatch.FromString(second.SerializeToString())
    tamper(bad)
    with pytest.raises(PageferryError) as caught:
        receiver.take(incoming, raw(bad), stream)
    assert caught.value.grpc_status == status
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(incoming._standing().frames, memory)
    assert receiver.view("m-1").next_sequence == 1
    assert refused(receiver) == 1
    for message in (second, *rest):
        receiver.take(incoming, raw(message), stream)
    assert receiver.commit("m-1", source.handover(), start=False).guest_id == "web"
    assert refused(receiver) == 1


def test_what_came_is_counted_as_it_came(receiver: Receiver) -> None:
    source = Source()
    receiver.prepare(source.offer)
    incoming, stream = receiver.attach("m-1", 0)
    came = [raw(message) for message in messages(source)]
    taken: list[Batch] = [receiver.take(incoming, one, stream) for one in came]
    assert [batch.sequence for batch in taken] == list(range(len(came)))
    assert counted(receiver, "received_bytes_total", form="wire") == sum(m.wire_bytes for m in came)
    assert counted(receiver, "batch_seconds_count") == len(came)


def test_a_host_that_stops_gives_up_what_is_under_way_and_keeps_its_guests(
    receiver: Receiver,
) -> None:
    done, half = Source("m-1", "done"), Source("m-2", "half")
    receiver.prepare(done.offer)
    for batch in done.batches():
        receiver.accept("m-1", batch)
    receiver.commit("m-1", done.handover(), start=False)
    receiver.prepare(half.offer)
    incoming, stream = receiver.attach("m-2", 0)
    first, second, *_ = messages(half)
    receiver.take(incoming, raw(first), stream)
    receiver.abort_all("the destination host stops")
    assert receiver.view("m-2").state is IncomingState.ABORTED
    assert receiver.view("m-1").state is IncomingState.COMMITTED
    assert [guest.guest_id for guest in receiver.guests.all()] == ["done"]
    with pytest.raises(IllegalTransition, match="the destination host stops"):
        receiver.take(incoming, raw(second), stream)
