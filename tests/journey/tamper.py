"""What a peer can get wrong in a batch, written from the contract alone."""

from __future__ import annotations

import struct
from collections.abc import Callable

import xxhash
import zstandard

from pageferry.v1.destination_pb2 import (
    COMPRESSION_NONE,
    COMPRESSION_ZSTD,
    FRAME_KIND_DATA,
    FRAME_KIND_UNCHANGED,
    PageBatch,
)

Tamper = Callable[[PageBatch], None]

_U32 = (1 << 32) - 1
"""An enumeration's value may be negative on the wire; the checksum takes its low 32 bits."""


def seal(batch: PageBatch) -> PageBatch:
    """Give it the checksum of what it says, whatever that is.

    Fields that contradict each other have no checksum; what is given then must still be given,
    for it is the reader under test that has to refuse them, and not this.
    """
    header = struct.pack(
        "<QIIQBQQQ",
        batch.sequence,
        batch.round,
        batch.compression & _U32,
        batch.payload_raw_bytes,
        batch.end_of_round,
        len(batch.run_first),
        len(batch.unchanged_digests),
        len(batch.payload),
    )
    runs = (
        struct.pack(f"<{len(batch.run_first)}Q", *batch.run_first),
        struct.pack(f"<{len(batch.run_frames)}I", *batch.run_frames),
        struct.pack(f"<{len(batch.run_kind)}I", *(kind & _U32 for kind in batch.run_kind)),
    )
    batch.checksum = xxhash.xxh3_64_intdigest(
        b"".join((header, *runs, batch.unchanged_digests, batch.payload))
    )
    return batch


def damage(batch: PageBatch) -> None:
    """One bit of the first DATA frame."""
    assert batch.compression == COMPRESSION_NONE
    batch.payload = bytes([batch.payload[0] ^ 1]) + batch.payload[1:]


class Damage:
    """Damages the first page on its way, and whenever it is sent again, up to so many times.

    Attributes:
        gfns: of the page, once for each time.
    """

    def __init__(self, times: int) -> None:
        self.gfns: list[int] = []
        self._times = times

    def __call__(self, batch: PageBatch) -> None:
        data = [i for i, kind in enumerate(batch.run_kind) if kind == FRAME_KIND_DATA]
        if len(self.gfns) == self._times or not data:
            return
        gfn = batch.run_first[data[0]]
        if not self.gfns or gfn == self.gfns[0]:
            self.gfns.append(gfn)
            damage(batch)
            seal(batch)


def _checksum(batch: PageBatch) -> None:
    batch.checksum ^= 1


def _ahead(batch: PageBatch) -> None:
    batch.sequence += 1


def _no_round(batch: PageBatch) -> None:
    batch.round = 0


def _far_away(batch: PageBatch) -> None:
    batch.run_first[-1] = 2**63


def _one_too_many(batch: PageBatch) -> None:
    batch.run_first[:] = [2047]
    batch.run_frames[:] = [2]
    batch.run_kind[:] = [FRAME_KIND_UNCHANGED]
    batch.payload, batch.payload_raw_bytes = b"", 0
    batch.unchanged_digests = bytes(16)


def _overlapping(batch: PageBatch) -> None:
    batch.run_first.append(batch.run_first[-1])
    batch.run_frames.append(1)
    batch.run_kind.append(FRAME_KIND_DATA)


def _not_unchanged(batch: PageBatch) -> None:
    batch.run_first[:] = [5]
    batch.run_frames[:] = [1]
    batch.run_kind[:] = [FRAME_KIND_UNCHANGED]
    batch.payload, batch.payload_raw_bytes = b"", 0
    batch.unchanged_digests = b"\x01" * 8


def _no_such_kind(batch: PageBatch) -> None:
    batch.run_kind[0] = 7  # type: ignore[call-overload]


def _no_such_compression(batch: PageBatch) -> None:
    batch.compression = 9  # type: ignore[assignment]


def _more_than_it_says(batch: PageBatch) -> None:
    batch.payload = zstandard.compress(batch.payload + bytes(4096))
    batch.compression = COMPRESSION_ZSTD


def _more_than_it_says_unsaid(batch: PageBatch) -> None:
    """As before, with no size in the zstd frame that would give it away at once."""
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    batch.payload = compressor.compress(batch.payload + bytes(2**20))
    batch.compression = COMPRESSION_ZSTD


def _less_than_it_says(batch: PageBatch) -> None:
    batch.payload = zstandard.compress(batch.payload[4096:])
    batch.compression = COMPRESSION_ZSTD


def _not_compressed(batch: PageBatch) -> None:
    batch.compression = COMPRESSION_ZSTD
    batch.payload = b"no zstd at all"


def _cut_off(batch: PageBatch) -> None:
    batch.payload = batch.payload[:-1]


def _huge(batch: PageBatch) -> None:
    batch.payload_raw_bytes = 2**40


def _sealed(tamper: Tamper) -> Tamper:
    def sealed(batch: PageBatch) -> None:
        tamper(batch)
        seal(batch)

    return sealed


TAMPERED: dict[str, tuple[Tamper, str]] = {
    "a wrong checksum": (_checksum, "DATA_LOSS"),
    "a damaged page": (damage, "DATA_LOSS"),
    "out of order": (_sealed(_ahead), "FAILED_PRECONDITION"),
    "of round 0": (_sealed(_no_round), "FAILED_PRECONDITION"),
    "frames far outside": (_sealed(_far_away), "OUT_OF_RANGE"),
    "one frame outside": (_sealed(_one_too_many), "OUT_OF_RANGE"),
    "overlapping runs": (_sealed(_overlapping), "DATA_LOSS"),
    "unchanged frames that are not": (_sealed(_not_unchanged), "DATA_LOSS"),
    "an unknown kind of frame": (_sealed(_no_such_kind), "DATA_LOSS"),
    "an unknown compression": (_sealed(_no_such_compression), "DATA_LOSS"),
    "a payload of more than it says": (_sealed(_more_than_it_says), "INVALID_ARGUMENT"),
    "likewise, unsaid": (_sealed(_more_than_it_says_unsaid), "INVALID_ARGUMENT"),
    "a payload of less than it says": (_sealed(_less_than_it_says), "INVALID_ARGUMENT"),
    "a payload that is no zstd": (_sealed(_not_compressed), "INVALID_ARGUMENT"),
    "a payload that is cut off": (_sealed(_cut_off), "INVALID_ARGUMENT"),
    "a payload larger than allowed": (_sealed(_huge), "INVALID_ARGUMENT"),
}
"""By what is wrong with it: how to make it so, and the status by which it is refused."""
