"""From frames in guest memory to what a batch says about them.

The guest may write while a batch is encoded. Bytes are therefore copied once, and
everything else (digests, kinds, payload) is computed on that copy: what is said about a
frame is true of the bytes that are sent. The memory of the encoder is one digest per frame,
under a key of this migration: without it nobody can make a frame that changed look
unchanged. Zero is no digest, it is all bytes compared with zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard

from paging_core.digest import Digests, Flags, FrameKey, examine_frames
from paging_core.log_dirty import GfnArray
from paging_core.memory import Frames
from paging_core.migration_key import MigrationKey
from paging_core.units import FRAME_BYTES
from source_host.precopy.compression import OFF
from wire.batch import Batch, Compression
from wire.runs import FrameKind, FrameRuns, KindArray

# Plain integers: numpy compares an array with an IntEnum four times slower.
_DATA, _ZERO, _UNCHANGED = int(FrameKind.DATA), int(FrameKind.ZERO), int(FrameKind.UNCHANGED)
_LOOK_FRAMES = 64
"""Looked at in one go for how many are zeros."""


@dataclass(frozen=True)
class Encoded:
    """What came of some frames.

    Attributes:
        batch: what to send.
        changed: for each frame, whether it holds other content than what was said of it
            before; bool, shape (n,).
        digested: frames that a sender must digest to say so: all but those of zeros.
    """

    batch: Batch
    changed: npt.NDArray[np.bool_]
    digested: int = 0


class Encoder:
    """Turns frames into batches and remembers what it last said about each frame."""

    def __init__(self, frames: Frames, key: MigrationKey, *, suppress: bool) -> None:
        """Encode from guest memory `frames`, uint8, shape (n, 4096)."""
        self._frames = frames
        self._key = FrameKey.of(key)
        self._next_sequence = 0
        self._suppress = suppress
        self._last_sent: Digests = np.zeros(len(frames), np.uint64)
        self._compressor: tuple[int, zstandard.ZstdCompressor] | None = None

    def fitting(self, gfns: GfnArray, most_bytes: int) -> int:
        """How many of these frames make a message of about that length; one at least.

        Frames of zeros take no room, wherever they are; what compresses is not foreseen.
        """
        left = max(1, most_bytes // FRAME_BYTES)
        if len(gfns) <= left:
            return len(gfns)
        for first in range(0, len(gfns), _LOOK_FRAMES):
            filled = self._frames[gfns[first : first + _LOOK_FRAMES]].any(axis=1)
            if int(filled.sum()) > left:
                return first + int(np.flatnonzero(filled)[left])
            left -= int(filled.sum())
        return len(gfns)

    def encode(
        self,
        gfns: GfnArray,
        ever_sent: npt.NDArray[np.bool_],
        round_number: int,
        *,
        last: bool,
        level: int = OFF,
    ) -> Encoded:
        """Copy these frames as they stand now and say what to send for them.

        Args:
            gfns: ascending; none makes an empty batch, which only ends its round.
            ever_sent: whether the destination has got each of them before.
            round_number: from 1.
            last: nothing more comes in this round.
            level: of zstd; `OFF` sends the batch plain. One that does not shrink is sent
                plain at any level.
        """
        copy = _StableCopy(self._frames, gfns)
        digests, zero = examine_frames(copy.frames, self._key)
        changed = ~(ever_sent & (digests == self._last_sent[gfns]))
        kinds = self._kinds(zero, changed)
        self._last_sent[gfns] = digests
        raw = copy.bytes_of(kinds == _DATA)
        payload, compression = self._compressed(raw, level)
        batch = Batch(
            sequence=self._next_sequence,
            round=round_number,
            runs=FrameRuns.of(gfns, kinds),
            payload=payload,
            compression=compression,
            payload_raw_bytes=len(raw),
            end_of_round=last,
            unchanged_digests=digests[kinds == _UNCHANGED],
        )
        self._next_sequence += 1
        return Encoded(batch, changed, int(np.count_nonzero(~zero)))

    def _kinds(self, zero: Flags, changed: npt.NDArray[np.bool_]) -> KindArray:
        """Zero is said first: it costs least. Unchanged needs an earlier sending."""
        kinds = np.full(len(zero), _DATA, np.uint8)
        if self._suppress:
            kinds[~changed] = _UNCHANGED
        kinds[zero] = _ZERO
        return kinds

    def _compressed(self, raw: bytes, level: int) -> tuple[bytes, Compression]:
        if level == OFF or not raw:
            return raw, Compression.NONE
        if self._compressor is None or self._compressor[0] != level:
            self._compressor = (level, zstandard.ZstdCompressor(level=level))
        small = self._compressor[1].compress(raw)
        return (small, Compression.ZSTD) if len(small) < len(raw) else (raw, Compression.NONE)


class _StableCopy:
    """The bytes of some frames at one moment, which nothing else writes to.

    Attributes:
        frames: uint8, shape (n, 4096).
    """

    def __init__(self, memory: Frames, gfns: GfnArray) -> None:
        self._as_bytes: bytes | None = None
        if len(gfns) and int(gfns[-1]) - int(gfns[0]) + 1 == len(gfns):
            # One run: made at once as the bytes object that a message takes without a copy.
            self._as_bytes = memory[int(gfns[0]) : int(gfns[-1]) + 1].tobytes()
            self.frames = np.frombuffer(self._as_bytes, np.uint8).reshape(-1, FRAME_BYTES)
        else:
            self.frames = memory[gfns]

    def bytes_of(self, chosen: npt.NDArray[np.bool_]) -> bytes:
        """The frames that `chosen` marks, one after another."""
        if not chosen.all():
            return self.frames[chosen].tobytes()
        return self.frames.tobytes() if self._as_bytes is None else self._as_bytes
