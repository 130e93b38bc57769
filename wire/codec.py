"""The messages of a page stream as bytes, without copying a payload more than once.

What goes over the wire is plain protobuf, `TransferMessage` of destination.proto; any
client of the generated stubs can take either end. protobuf would copy a payload twice on
each side (into its own memory and out of it). Here the small fields are written by
protobuf, and the payload is joined on as the last field; at the other end it is found by
its tag and handed on as a view of the bytes that came. docs/data-path.md has the gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import grpc
from google.protobuf.message import DecodeError

from pageferry.v1 import destination_pb2
from paging_core.errors import StreamError
from paging_core.units import format_bytes
from wire.batch import Batch
from wire.checksum import Payload

TRANSFER = "/pageferry.v1.DestinationHost/Transfer"
"""The method that carries pages."""

_BATCH_TAG = b"\x12"  # TransferMessage.batch: field 2, a length and so many bytes
_PAYLOAD_TAG = b"\x4a"  # PageBatch.payload: field 9, likewise
_MOST_FIELDS = 64
"""Of a batch; a message cut into more is left to protobuf, in whose memory they are small."""
_MOST_BESIDE_PAYLOAD_BYTES = 4 << 20
"""Hundreds of thousands of runs; parsed they take a dozen times as much."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

TransferCall: TypeAlias = "grpc.StreamStreamMultiCallable[bytes, destination_pb2.TransferReply]"


def page_stream(channel: grpc.Channel) -> TransferCall:
    """The Transfer call of a channel, for messages that are encoded already."""
    return channel.stream_stream(
        TRANSFER,
        request_serializer=_as_it_is,
        response_deserializer=destination_pb2.TransferReply.FromString,
    )


def encode_hello(
    migration_id: str, *, stream: int = 0, first_sequence: int = 0, host_id: str = ""
) -> bytes:
    """The first message of a stream."""
    hello = destination_pb2.TransferHello(
        migration_id=migration_id, stream=stream, first_sequence=first_sequence, host_id=host_id
    )
    return destination_pb2.TransferMessage(hello=hello).SerializeToString()


def encode_batch(batch: Batch) -> bytes:
    """A batch as one message; its length is what it weighs on the wire."""
    header = batch.header_message().SerializeToString()
    size = len(batch.payload)
    if size:
        header += _PAYLOAD_TAG + _varint(size)
    return b"".join((_BATCH_TAG, _varint(len(header) + size), header, batch.payload))


@dataclass(frozen=True)
class RawBatch:
    """A batch as it came, nothing of it checked yet.

    Attributes:
        header: the message without its payload.
        payload: a view of the bytes that came.
        wire_bytes: length of the whole message.
    """

    header: destination_pb2.PageBatch
    payload: Payload
    wire_bytes: int

    def checked(self, n_frames: int, max_payload_bytes: int) -> Batch:
        """See `Batch.from_message`."""
        return Batch.from_message(self.header, n_frames, max_payload_bytes, self.payload)


Incoming = destination_pb2.TransferHello | RawBatch | StreamError
"""What one message decodes to; an error is raised by who serves the stream, as a status."""


def decode_transfer(data: bytes) -> Incoming:
    """Read a message of the stream, written by `encode_batch` or by protobuf."""
    found = _split(data)
    beside_bytes = len(data) - (len(found[1]) if found else 0)
    if beside_bytes > _MOST_BESIDE_PAYLOAD_BYTES:
        return StreamError(
            f"a message of the page stream has {format_bytes(beside_bytes)} beside its payload, "
            f"more than {format_bytes(_MOST_BESIDE_PAYLOAD_BYTES)}; send smaller batches"
        )
    try:
        if found is not None:
            header, payload = found
            return RawBatch(destination_pb2.PageBatch.FromString(header), payload, len(data))
        message = destination_pb2.TransferMessage.FromString(data)
    except DecodeError:
        return StreamError("the page stream carries something that is no TransferMessage")
    kind = message.WhichOneof("message")
    if kind == "hello":
        return message.hello
    if kind == "batch":
        return RawBatch(message.batch, message.batch.payload, len(data))
    return StreamError("a message of the page stream is neither hello nor batch; see contract 1.0")


def _split(data: bytes) -> tuple[bytes, memoryview] | None:
    """Header and payload of a message that is one batch; None sends it to protobuf."""
    view = memoryview(data)
    try:
        if data[:1] != _BATCH_TAG:
            return None
        size, at = _read_varint(data, 1)
        if at + size != len(data):
            return None
        return _split_batch(view, data, at)
    except IndexError:
        return None


def _split_batch(view: memoryview, data: bytes, at: int) -> tuple[bytes, memoryview] | None:
    kept: list[memoryview] = []
    payload = view[:0]
    while at < len(data):
        if len(kept) == _MOST_FIELDS:
            return None
        start = at
        tag, at = _read_varint(data, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, at = _read_varint(data, at)
        elif wire_type == _BYTES:
            size, at = _read_varint(data, at)
            at += size
            if tag == _PAYLOAD_TAG[0]:
                payload = view[at - size : at]
                continue
        elif wire_type in {_FIXED64, _FIXED32}:
            at += 8 if wire_type == _FIXED64 else 4
        else:
            return None
        kept.append(view[start:at])
    return (b"".join(kept), payload) if at == len(data) else None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The (value, position after it) of a varint.

    Raises:
        IndexError: the data ends within it.
    """
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a varint longer than 64 bits")


def _as_it_is(message: bytes) -> bytes:
    return message
