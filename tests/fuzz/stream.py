"""The page stream: messages as they come, and batches that are what they say."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from dest_host.incoming import Offer
from dest_host.limits import Limits
from dest_host.receiver import Receiver
from pageferry.v1.destination_pb2 import PageBatch, TransferMessage
from paging_core.config import GuestConfig
from paging_core.errors import PageferryError
from paging_core.migration_key import MigrationKey
from paging_core.units import FRAME_BYTES
from tests.dest_host.fake_guest import FakeFactory
from tests.fuzz.refusals import refusals
from tests.journey.tamper import seal
from wire.codec import RawBatch, decode_transfer

N_FRAMES = 256
MAX_PAYLOAD_BYTES = 1 << 18
_MOST_BATCHES = 4


def decode(data: bytes) -> None:
    """Decoded by hand it says what protobuf reads in it; then it is checked."""
    message = decode_transfer(data)
    if not isinstance(message, RawBatch):
        return
    whole = TransferMessage.FromString(data)
    assert whole.WhichOneof("message") == "batch"
    assert bytes(message.payload) == whole.batch.payload
    without = PageBatch()
    without.CopyFrom(whole.batch)
    without.payload = b""
    header = PageBatch()
    header.CopyFrom(message.header)
    header.payload = b""
    assert header == without
    with refusals():
        message.checked(N_FRAMES, MAX_PAYLOAD_BYTES)


def batches(data: bytes) -> None:
    """A batch that is refused changes no byte of memory; one that is taken only its frames."""
    receiver = Receiver(Limits(max_payload_bytes=MAX_PAYLOAD_BYTES), FakeFactory())
    offer = Offer(
        "m", "g", GuestConfig(N_FRAMES * FRAME_BYTES, workload="idle"), MigrationKey.of_seed(0)
    )
    receiver.prepare(offer)
    incoming, stream = receiver.attach("m", 0)
    frames = incoming._standing().frames
    frames[:] = np.arange(FRAME_BYTES, dtype=np.uint64).astype(np.uint8)
    try:
        for sequence, part in enumerate(data.split(b"\xff\x00next", _MOST_BATCHES)):
            raw = _raw(part, sequence)
            if raw is None:
                return
            _take(receiver, raw, stream)
    finally:
        del frames
        receiver.close()


def _raw(data: bytes, sequence: int) -> RawBatch | None:
    """The batch with its place and its checksum set right, so that what comes after is tried."""
    try:
        batch = PageBatch.FromString(data)
    except DecodeError:
        return None
    batch.sequence = sequence
    batch.round = 1
    seal(batch)
    decoded = decode_transfer(TransferMessage(batch=batch).SerializeToString())
    return decoded if isinstance(decoded, RawBatch) else None


def _take(receiver: Receiver, raw: RawBatch, stream: int) -> None:
    incoming = receiver.incoming("m")
    frames = incoming._standing().frames
    before = frames.copy()
    with refusals():
        try:
            batch = receiver.take(incoming, raw, stream)
        except PageferryError:
            assert np.array_equal(frames, before), "a batch that was refused changed memory"
            raise
        others = np.ones(N_FRAMES, bool)
        others[batch.runs.gfns()] = False
        assert np.array_equal(frames[others], before[others]), "frames changed that it names not"
