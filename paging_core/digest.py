"""Digests that prove memory: XXH64 of every frame, and a tree of digests over all of them.

XXH64 with seed 0 (Y. Collet, xxHash specification 0.1.1) so that anyone can check a frame
with any xxHash library. Compiled here because a call per frame from Python costs as much
as the hash itself and would hold the interpreter lock.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.memory import Frames
from paging_core.units import FRAME_BYTES

Digests = npt.NDArray[np.uint64]
"""XXH64 digests, one per frame or per tree node."""

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5_LENGTH = np.uint64(FRAME_BYTES)
_START_1 = np.uint64((0x9E3779B185EBCA87 + 0xC2B2AE3D27D4EB4F) % 2**64)
_START_4 = np.uint64(2**64 - 0x9E3779B185EBCA87)

NODE_DIGESTS = FRAME_BYTES // 8
"""Children of a tree node: 512 digests are 4096 bytes, so a node hashes like a frame."""


@kernel
def _rotate(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@kernel
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(lane + word * _P2, 31) * _P1


@kernel
def _merge(digest: np.uint64, lane: np.uint64) -> np.uint64:
    return (digest ^ _round(np.uint64(0), lane)) * _P1 + _P4


@kernel
def _hash_frames(frames: npt.NDArray[np.uint64], out: Digests) -> None:
    for i in range(frames.shape[0]):
        a, b, c, d = _START_1, _P2, np.uint64(0), _START_4
        for j in range(0, 512, 4):
            a = _round(a, frames[i, j])
            b = _round(b, frames[i, j + 1])
            c = _round(c, frames[i, j + 2])
            d = _round(d, frames[i, j + 3])
        digest = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        digest = _merge(_merge(_merge(_merge(digest, a), b), c), d) + _P5_LENGTH
        digest = (digest ^ (digest >> np.uint64(33))) * _P2
        digest = (digest ^ (digest >> np.uint64(29))) * _P3
        out[i] = digest ^ (digest >> np.uint64(32))


def frame_digests(frames: Frames, out: Digests | None = None) -> Digests:
    """XXH64 (seed 0) of each frame.

    Args:
        frames: uint8, shape (n, 4096), each row contiguous.
        out: where to put them, uint64, shape (n,); made when None.
    """
    if out is None:
        out = np.empty(len(frames), np.uint64)
    _hash_frames(frames.view(np.uint64), out)
    return out


ZERO_FRAME = 0xAC869B6F32D8BBDB
"""XXH64 of a frame of zeros."""


class DigestTree:
    """All memory as one number, and a way down to the frames that differ.

    Level 0 holds a digest per frame; level k + 1 one digest per 512 of level k, the last
    node padded with zeros; the last level holds the root alone.

    Attributes:
        levels: uint64 arrays, leaves first.
    """

    def __init__(self, leaves: Digests) -> None:
        self.levels: list[Digests] = [leaves]
        while len(self.levels[-1]) > 1:
            self.levels.append(_parents(self.levels[-1]))

    @classmethod
    def of(cls, frames: Frames) -> DigestTree:
        """The tree over memory as it stands now."""
        return cls(frame_digests(frames))

    @property
    def root(self) -> int:
        """The digest of everything."""
        return int(self.levels[-1][0])


def _parents(children: Digests) -> Digests:
    n_nodes = -(-len(children) // NODE_DIGESTS)
    padded = np.zeros((n_nodes, NODE_DIGESTS), np.uint64)
    padded.reshape(-1)[: len(children)] = children
    return frame_digests(padded.view(np.uint8))
