"""One batch of pages, and everything that is checked before a byte of it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
import zstandard

from pageferry.v1 import destination_pb2
from paging_core.errors import BatchCorrupt, PayloadSize, StreamError
from paging_core.memory import Frames
from paging_core.units import FRAME_BYTES, format_bytes
from wire.checksum import Payload, batch_checksum
from wire.runs import Digests, FrameKind, FrameRuns


class Compression(IntEnum):
    """How a payload was compressed; the numbers of the contract."""

    NONE = destination_pb2.COMPRESSION_NONE
    ZSTD = destination_pb2.COMPRESSION_ZSTD


def no_digests() -> Digests:
    """For a batch without UNCHANGED frames."""
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Batch:
    """Frames of one round: runs, and one payload with the content of the DATA frames.

    Attributes:
        sequence: from 0, by one, over all rounds of a stream.
        round: from 1.
        runs: which frames, and what is said about each.
        payload: the DATA frames in the order of `runs`, as sent (maybe compressed).
        payload_raw_bytes: size of the payload before compression.
        end_of_round: nothing more comes in this round.
        unchanged_digests: the keyed digest of each UNCHANGED frame in the order of `runs`
            (`paging_core.digest`), uint64.
    """

    sequence: int
    round: int
    runs: FrameRuns
    payload: Payload = b""
    compression: Compression = Compression.NONE
    payload_raw_bytes: int = 0
    end_of_round: bool = False
    unchanged_digests: Digests = field(default_factory=no_digests)

    def checksum(self) -> int:
        """What the field `checksum` of the message must say."""
        return batch_checksum(
            sequence=self.sequence,
            round_number=self.round,
            compression=self.compression,
            payload_raw_bytes=self.payload_raw_bytes,
            end_of_round=self.end_of_round,
            runs=self.runs,
            unchanged_digests=self.unchanged_digests,
            payload=self.payload,
        )

    def to_message(self) -> destination_pb2.PageBatch:
        """The batch as the contract writes it, its checksum filled in."""
        message = self.header_message()
        message.payload = bytes(self.payload)
        return message

    def header_message(self) -> destination_pb2.PageBatch:
        """`to_message` without the payload, for who sends that apart (`wire.codec`)."""
        return destination_pb2.PageBatch(
            sequence=self.sequence,
            round=self.round,
            run_first=self.runs.first.tolist(),
            run_frames=self.runs.frames.tolist(),
            run_kind=self.runs.kind.tolist(),
            compression=int(self.compression),  # type: ignore[arg-type]
            payload_raw_bytes=self.payload_raw_bytes,
            checksum=self.checksum(),
            end_of_round=self.end_of_round,
            unchanged_digests=self.unchanged_digests.astype("<u8").tobytes(),
        )

    @classmethod
    def from_message(
        cls,
        message: destination_pb2.PageBatch,
        n_frames: int,
        max_payload_bytes: int,
        payload: Payload | None = None,
    ) -> Batch:
        """Read a batch from the network; nothing of it is trusted.

        Args:
            message: what came.
            n_frames: frames of the guest that it is for.
            max_payload_bytes: most that the payload may be after decompression; no more
                than that is ever allocated.
            payload: the payload when it came apart from the message.

        Raises:
            BatchCorrupt: the checksum does not match the content.
            FramesOutsideGuest: a run beyond the end of memory.
            PayloadSize: a payload that is not as long as it says, or longer than allowed.
            StreamError: fields that do not fit each other.
        """
        batch = cls(
            sequence=message.sequence,
            round=message.round,
            runs=_runs_of(message, n_frames),
            payload=message.payload if payload is None else payload,
            compression=_compression_of(message),
            payload_raw_bytes=message.payload_raw_bytes,
            end_of_round=message.end_of_round,
            unchanged_digests=_digests_of(message),
        )
        if batch.checksum() != message.checksum:
            raise BatchCorrupt(
                f"batch {batch.sequence} does not match its checksum; it was damaged on the way, "
                "send it again"
            )
        batch.check(n_frames, max_payload_bytes)
        return batch

    def check(self, n_frames: int, max_payload_bytes: int) -> None:
        """Refuse a batch that does not fit a guest of `n_frames`, or that does not fit itself.

        Raises:
            FramesOutsideGuest, PayloadSize, StreamError: as `from_message`.
        """
        self.runs.check(n_frames)
        self._check_sizes(max_payload_bytes)

    @cached_property
    def frames(self) -> Frames:
        """Content of the DATA frames, uint8, shape (n, 4096).

        Raises:
            PayloadSize: it does not decompress to `payload_raw_bytes`.
        """
        raw = self.payload
        if self.compression is Compression.ZSTD:
            raw = _decompress(self.payload, self.payload_raw_bytes)
        return np.frombuffer(raw, np.uint8).reshape(-1, FRAME_BYTES)

    def _check_sizes(self, max_payload_bytes: int) -> None:
        raw_bytes = self.payload_raw_bytes
        if raw_bytes > max_payload_bytes:
            raise PayloadSize(
                f"batch {self.sequence} holds {format_bytes(raw_bytes)}, this host takes "
                f"{format_bytes(max_payload_bytes)} in one, as Prepare said; send smaller batches"
            )
        data_frames = self.runs.count(FrameKind.DATA)
        if raw_bytes != data_frames * FRAME_BYTES:
            raise PayloadSize(
                f"batch {self.sequence} says {raw_bytes} bytes for {data_frames} frames of "
                f"{FRAME_BYTES}; the payload must hold every DATA frame once"
            )
        if self.compression is Compression.NONE and len(self.payload) != raw_bytes:
            raise PayloadSize(
                f"batch {self.sequence} says {raw_bytes} bytes and carries {len(self.payload)}"
            )
        unchanged = self.runs.count(FrameKind.UNCHANGED)
        if len(self.unchanged_digests) != unchanged:
            raise StreamError(
                f"batch {self.sequence} has {len(self.unchanged_digests)} digests for "
                f"{unchanged} unchanged frames; it needs one each"
            )
        _ = self.frames  # decompress now: a payload that lies is refused as a whole


def _runs_of(message: destination_pb2.PageBatch, n_frames: int) -> FrameRuns:
    n_runs = len(message.run_first)
    if n_runs > n_frames:  # first of all: each is a byte on the wire, and many more from here on
        raise StreamError(
            f"batch {message.sequence} has {n_runs} runs for a guest of {n_frames} frames; "
            "a run has one frame at least"
        )
    if len(message.run_frames) != n_runs or len(message.run_kind) != n_runs:
        raise StreamError(
            f"batch {message.sequence} has {n_runs} run starts, {len(message.run_frames)} lengths "
            f"and {len(message.run_kind)} kinds; it needs as many of each"
        )
    # A first beyond 2**63 turns negative here and is refused as outside the guest.
    first = np.array(message.run_first, np.uint64).view(np.int64)
    kinds = np.array(message.run_kind, np.int64)
    if (kinds.view(np.uint64) > 255).any():
        raise StreamError(f"batch {message.sequence} has kinds of frames that do not exist")
    return FrameRuns(first, np.array(message.run_frames, np.int64), kinds.astype(np.uint8))


def _compression_of(message: destination_pb2.PageBatch) -> Compression:
    try:
        return Compression(message.compression)
    except ValueError:
        raise StreamError(
            f"batch {message.sequence} is compressed in a way ({message.compression}) that "
            "contract 1.0 does not know; use none or zstd"
        ) from None


def _digests_of(message: destination_pb2.PageBatch) -> Digests:
    packed = message.unchanged_digests
    if len(packed) % 8:
        raise StreamError(
            f"batch {message.sequence} has {len(packed)} bytes of digests, not 8 a frame"
        )
    return np.frombuffer(packed, "<u8").astype(np.uint64, copy=False)


def _decompress(payload: Payload, raw_bytes: int) -> bytes:
    """Decompress to exactly `raw_bytes`; never allocates more than that."""
    try:
        # The library trusts a size in the frame's header more than our limit: check it first.
        said = zstandard.frame_content_size(payload)
        if said not in (-1, raw_bytes):
            raise PayloadSize(f"the payload decompresses to {said} bytes and says {raw_bytes}")
        raw = zstandard.ZstdDecompressor().decompress(
            payload, max_output_size=raw_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise PayloadSize(
            f"the payload does not decompress to the {raw_bytes} bytes it says: {error}"
        ) from error
    if len(raw) != raw_bytes:
        raise PayloadSize(f"the payload decompresses to {len(raw)} bytes and says {raw_bytes}")
    return raw
