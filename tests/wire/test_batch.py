"""A batch that is read back is the batch that was sent; anything else is refused."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pageferry.v1 import destination_pb2
from paging_core.errors import (
    BatchCorrupt,
    FramesOutsideGuest,
    PageferryError,
    PayloadSize,
    StreamError,
)
from paging_core.units import FRAME_BYTES
from wire.batch import Batch, Compression
from wire.codec import RawBatch, decode_transfer, encode_batch, encode_hello
from wire.runs import FrameKind, FrameRuns

GUEST_FRAMES = 64
MAX_PAYLOAD_BYTES = 32 * FRAME_BYTES

Message = destination_pb2.PageBatch


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    gfns = sorted(draw(st.sets(st.integers(0, GUEST_FRAMES - 1), max_size=24)))
    kinds = [draw(st.sampled_from(list(FrameKind))) for _ in gfns]
    content = b"".join(
        bytes([gfn, draw(st.integers(0, 255))]) * (FRAME_BYTES // 2)
        for gfn, kind in zip(gfns, kinds, strict=True)
        if kind is FrameKind.DATA
    )
    zstd = bool(content) and draw(st.booleans())
    return Batch(
        sequence=draw(st.integers(0, 2**64 - 1)),
        round=draw(st.integers(1, 2**32 - 1)),
        runs=FrameRuns.of(np.array(gfns, np.int64), np.array(kinds, np.uint8)),
        payload=zstandard.compress(content) if zstd else content,
        compression=Compression.ZSTD if zstd else Compression.NONE,
        payload_raw_bytes=len(content),
        end_of_round=draw(st.booleans()),
        unchanged_digests=np.array(
            [draw(st.integers(0, 2**64 - 1)) for kind in kinds if kind is FrameKind.UNCHANGED],
            np.uint64,
        ),
    )


def read(message: Message) -> Batch:
    return Batch.from_message(message, GUEST_FRAMES, MAX_PAYLOAD_BYTES)


def assert_same(ours: Batch, theirs: Batch) -> None:
    assert (ours.sequence, ours.round, ours.end_of_round) == (
        theirs.sequence,
        theirs.round,
        theirs.end_of_round,
    )
    assert ours.runs.gfns().tolist() == theirs.runs.gfns().tolist()
    assert ours.runs.kinds().tolist() == theirs.runs.kinds().tolist()
    assert ours.unchanged_digests.tolist() == theirs.unchanged_digests.tolist()
    assert ours.frames.tobytes() == theirs.frames.tobytes()


@given(batches())
def test_what_is_sent_is_what_is_read(batch: Batch) -> None:
    assert_same(read(batch.to_message()), batch)


@given(batches())
def test_the_codec_writes_what_protobuf_writes(batch: Batch) -> None:
    ours = destination_pb2.TransferMessage.FromString(encode_batch(batch))
    assert ours == destination_pb2.TransferMessage(batch=batch.to_message())


@given(batches(), st.booleans())
def test_the_codec_reads_what_either_wrote(batch: Batch, by_protobuf: bool) -> None:
    by_library = destination_pb2.TransferMessage(batch=batch.to_message()).SerializeToString()
    raw = decode_transfer(by_library if by_protobuf else encode_batch(batch))
    assert isinstance(raw, RawBatch)
    assert raw.wire_bytes == len(by_library)
    assert_same(raw.checked(GUEST_FRAMES, MAX_PAYLOAD_BYTES), batch)


@given(st.binary(max_size=64))
def test_noise_is_refused_and_not_misread(noise: bytes) -> None:
    """Whatever protobuf does not read as a batch is none here either."""
    decoded = decode_transfer(noise)
    try:
        message = destination_pb2.TransferMessage.FromString(noise)
    except Exception:  # noqa: BLE001 - the library's own DecodeError
        assert isinstance(decoded, StreamError)
        return
    assert isinstance(decoded, RawBatch) == (message.WhichOneof("message") == "batch")


def test_a_message_that_was_cut_short() -> None:
    whole = encode_batch(example())
    for end in (1, 2, 5, 40, len(whole) - 1):
        assert isinstance(decode_transfer(whole[:end]), StreamError)


def test_a_hello_is_a_hello() -> None:
    hello = decode_transfer(encode_hello("m-1", first_sequence=7))
    assert isinstance(hello, destination_pb2.TransferHello)
    assert (hello.migration_id, hello.first_sequence) == ("m-1", 7)


def example(**changes: object) -> Batch:
    """Three DATA frames, one ZERO, one UNCHANGED."""
    kinds = [FrameKind.DATA, FrameKind.DATA, FrameKind.ZERO, FrameKind.DATA, FrameKind.UNCHANGED]
    fields: dict[str, object] = {
        "sequence": 5,
        "round": 2,
        "runs": FrameRuns.of(np.array([3, 4, 5, 9, 20], np.int64), np.array(kinds, np.uint8)),
        "payload": bytes(range(256)) * 48,
        "payload_raw_bytes": 3 * FRAME_BYTES,
        "unchanged_digests": np.array([2**63 + 1], np.uint64),
    }
    return Batch(**(fields | changes))  # type: ignore[arg-type]


def test_the_checksum_is_the_documented_one() -> None:
    """By hand, from the text in wire/checksum.py and proto/README.md."""
    payload = bytes(range(256)) * 48
    header = struct.pack("<QIIQBQQQ", 5, 2, 1, 3 * FRAME_BYTES, 0, 4, 8, len(payload))
    header += struct.pack("<4Q", 3, 5, 9, 20)
    header += struct.pack("<4I", 2, 1, 1, 1)
    header += struct.pack("<4I", 1, 2, 1, 3)
    header += struct.pack("<Q", 2**63 + 1)
    assert example().to_message().checksum == xxhash.xxh3_64_intdigest(header + payload)


def _set(**fields: object) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


def _flip_payload(message: Message) -> None:
    message.payload = message.payload[:-1] + bytes([message.payload[-1] ^ 1])


def _flip_digest(message: Message) -> None:
    message.unchanged_digests = bytes(8)


def _other_frame(message: Message) -> None:
    message.run_first[0] = 2


@pytest.mark.parametrize(
    "damage",
    [
        _flip_payload,
        _flip_digest,
        _other_frame,
        _set(sequence=6),
        _set(round=3),
        _set(end_of_round=True),
        _set(payload_raw_bytes=4 * FRAME_BYTES),
        _set(checksum=0),
    ],
)
def test_any_damage_is_seen_by_the_checksum(damage: Callable[[Message], None]) -> None:
    message = example().to_message()
    read(message)
    damage(message)
    with pytest.raises(BatchCorrupt, match="does not match its checksum"):
        read(message)


_THREE = FrameRuns.of(np.arange(3, dtype=np.int64), np.ones(3, np.uint8))
_ZEROS = bytes(3 * FRAME_BYTES)


def data(**changes: object) -> Batch:
    """Three DATA frames, nothing else."""
    fields: dict[str, object] = {
        "sequence": 0,
        "round": 1,
        "runs": _THREE,
        "payload": _ZEROS,
        "payload_raw_bytes": len(_ZEROS),
    }
    return Batch(**(fields | changes))  # type: ignore[arg-type]


def zstd(content: bytes, *, says_its_size: bool = True) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(write_content_size=says_its_size)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


BAD: dict[str, tuple[Batch, type[PageferryError]]] = {
    "frames outside the guest": (
        data(runs=FrameRuns.of(np.arange(62, 65), np.ones(3, np.uint8))),
        FramesOutsideGuest,
    ),
    "fewer bytes than it says": (data(payload=_ZEROS[:-1]), PayloadSize),
    "more bytes than it says": (data(payload=_ZEROS + b"x"), PayloadSize),
    "another size than its frames have": (
        data(payload=_ZEROS[4096:], payload_raw_bytes=2 * FRAME_BYTES),
        PayloadSize,
    ),
    "not compressed at all": (data(compression=Compression.ZSTD), PayloadSize),
    "compressed, cut short": (
        data(compression=Compression.ZSTD, payload=zstd(_ZEROS)[:-3]),
        PayloadSize,
    ),
    "decompresses to more": (
        data(compression=Compression.ZSTD, payload=zstd(bytes(2**20))),
        PayloadSize,
    ),
    "decompresses to more and hides it": (
        data(compression=Compression.ZSTD, payload=zstd(bytes(2**20), says_its_size=False)),
        PayloadSize,
    ),
    "decompresses to less": (
        data(compression=Compression.ZSTD, payload=zstd(_ZEROS[4096:], says_its_size=False)),
        PayloadSize,
    ),
    "compressed, and something behind it": (
        data(compression=Compression.ZSTD, payload=zstd(_ZEROS) + b"x"),
        PayloadSize,
    ),
    "more than this host takes": (
        data(
            runs=FrameRuns.of(np.arange(33), np.ones(33, np.uint8)),
            payload=bytes(33 * FRAME_BYTES),
            payload_raw_bytes=33 * FRAME_BYTES,
        ),
        PayloadSize,
    ),
    "a digest too few": (example(unchanged_digests=np.empty(0, np.uint64)), StreamError),
    "a digest too many": (data(unchanged_digests=np.ones(1, np.uint64)), StreamError),
}


@pytest.mark.parametrize("name", BAD)
def test_batches_that_do_not_fit_themselves(name: str) -> None:
    batch, error = BAD[name]
    with pytest.raises(error):
        read(batch.to_message())


def peak_bytes_of(step: Callable[[], object]) -> int:
    """Most memory that a step takes, of what is not protobuf's own."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("says_its_size", [False, True])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(says_its_size: bool) -> None:
    """The library would trust a size in its header more than a limit."""
    bomb = zstd(bytes(2**28), says_its_size=says_its_size)
    message = data(compression=Compression.ZSTD, payload=bomb).to_message()

    def refused() -> None:
        with pytest.raises(PayloadSize):
            read(message)

    assert peak_bytes_of(refused) < 2**20


def test_more_runs_than_frames_are_refused_before_anything_is_made_of_them() -> None:
    n_runs = 10**6
    message = Message(sequence=3, run_first=[0] * n_runs, run_frames=[1] * n_runs)
    message.run_kind.extend([destination_pb2.FRAME_KIND_ZERO] * n_runs)

    def refused() -> None:
        with pytest.raises(StreamError, match="1000000 runs for a guest of 64 frames"):
            read(message)

    assert peak_bytes_of(refused) < 2**20


@pytest.mark.parametrize("more", [b"", b"\x7a\x00"])
def test_runs_by_the_million_are_not_even_parsed(more: bytes) -> None:
    """Whether it is written as we do or with something behind it that nobody knows."""
    message = Message(sequence=3, run_first=[0] * (5 << 20))
    data = destination_pb2.TransferMessage(batch=message).SerializeToString() + more
    refused = decode_transfer(data)
    assert isinstance(refused, StreamError)
    assert "5.0 MiB beside its payload" in str(refused)


def test_a_run_per_frame_is_not_too_many() -> None:
    gfns = np.arange(GUEST_FRAMES)
    ones, kinds = np.ones(GUEST_FRAMES, np.int64), np.full(GUEST_FRAMES, FrameKind.ZERO, np.uint8)
    batch = Batch(0, 1, FrameRuns(gfns, ones, kinds))
    assert read(batch.to_message()).runs.n_frames == GUEST_FRAMES


def test_a_message_of_very_many_fields_takes_no_more_than_its_own_length() -> None:
    rounds = b"\x10\x01" * 10**6
    length = len(rounds)
    size = bytes((length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14))
    message = b"\x12" + size + rounds

    def read_it() -> None:
        raw = decode_transfer(message)
        assert isinstance(raw, RawBatch)
        assert raw.header.round == 1

    assert peak_bytes_of(read_it) < 2**23


def _shorten_runs(message: Message) -> None:
    del message.run_frames[0]


def _ragged_digests(message: Message) -> None:
    message.unchanged_digests = b"12345"


def _strange_kind(message: Message) -> None:
    message.run_kind[0] = 300  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_shorten_runs, "as many of each"),
        (_ragged_digests, "bytes of digests"),
        (_strange_kind, "kinds of frames"),
        (_set(compression=0), "compressed in a way"),
        (_set(compression=9), "compressed in a way"),
    ],
)
def test_fields_that_cannot_be(damage: Callable[[Message], None], why: str) -> None:
    message = example().to_message()
    damage(message)
    with pytest.raises(StreamError, match=why):
        read(message)


def test_an_empty_batch_ends_a_round() -> None:
    nothing = FrameRuns.of(np.empty(0, np.int64), np.empty(0, np.uint8))
    batch = read(Batch(3, 1, nothing, end_of_round=True).to_message())
    assert batch.end_of_round
    assert batch.frames.shape == (0, FRAME_BYTES)
