"""The checksum of a batch: XXH3-64 (seed 0) over its header fields, then its payload.

The header, little-endian and without padding::

    sequence u64 · round u32 · compression u32 · payload_raw_bytes u64 · end_of_round u8
    number of runs u64 · length of unchanged_digests in bytes u64 · length of payload u64
    run_first u64 each · run_frames u32 each · run_kind u32 each
    unchanged_digests as sent

The payload goes in as it is sent, compressed or not: a batch is checked before anything is
decompressed. It guards against faults, not against an attacker: without a key anybody can
compute it, and that is what the proof is for (`paging_core.proof`).
"""

from __future__ import annotations

import struct

import xxhash

from wire.runs import Digests, FrameRuns

Payload = bytes | bytearray | memoryview
"""Bytes of frames, or what they compress to."""

_HEADER = struct.Struct("<QIIQBQQQ")


def batch_checksum(
    *,
    sequence: int,
    round_number: int,
    compression: int,
    payload_raw_bytes: int,
    end_of_round: bool,
    runs: FrameRuns,
    unchanged_digests: Digests,
    payload: Payload,
) -> int:
    """XXH3-64 of everything that a batch says."""
    header = _HEADER.pack(
        sequence,
        round_number,
        compression,
        payload_raw_bytes,
        end_of_round,
        len(runs.first),
        unchanged_digests.nbytes,
        len(payload),
    )
    first, frames = runs.first.astype("<u8"), runs.frames.astype("<u4")
    kind, digests = runs.kind.astype("<u4"), unchanged_digests.astype("<u8")
    digest = xxhash.xxh3_64(b"".join((header, first.data, frames.data, kind.data, digests.data)))
    digest.update(payload)
    return digest.intdigest()


def xxh3(content: Payload) -> int:
    """XXH3-64 (seed 0) of some bytes, for comparisons without an attacker."""
    return xxhash.xxh3_64_intdigest(content)
