"""A digest of 8 bytes for every frame, under a key; and whether the frame is all zero.

What is said to be unchanged rests on it, so it has a bound under a secret key: for any two
different frames that were chosen without the key, the chance of equal digests is below 2**-60.

    NH        Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC: fast and secure message
              authentication", CRYPTO 1999, and RFC 4418: the sum over pairs of 32-bit words of
              (m1 + k1 mod 2**32) · (m2 + k2 mod 2**32), modulo 2**64. Collides with 2**-32.
    Toeplitz  the same again with the key shifted by one pair (two words), section 4.3 there:
              2**-64 for both sums together.
    finish    the four 32-bit halves of the two sums, times four keys modulo p = 2**61 - 1,
              added up: 2**-61 more. (UMAC's third layer, with a larger prime.)

An unkeyed hash, or a fast one with a secret seed such as XXH64, has no such bound: words can
be chosen whose changes cancel whatever the seed. Compiled here because a call per frame from
Python costs more than the digest and would hold the interpreter lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.memory import Frames
from paging_core.migration_key import KEY_BYTES, MigrationKey
from paging_core.units import FRAME_BYTES

Digests = npt.NDArray[np.uint64]
"""Digests of frames, one each."""
Flags = npt.NDArray[np.bool_]

PRIME = 2**61 - 1
"""Modulus of the last step: a Mersenne prime, so that no division is needed."""
PAIRS = FRAME_BYTES // 8
"""Pairs of 32-bit words in a frame: each is one 64-bit word, its lower half first."""
_HALVES = 4
_DRAWN_BYTES = 16
"""Drawn for each key of the last step: reduced modulo `PRIME` they are as good as even."""

_LOW = np.uint64(2**32 - 1)
_P = np.uint64(PRIME)
_32, _29, _61 = np.uint64(32), np.uint64(29), np.uint64(61)


@dataclass(frozen=True, eq=False, repr=False)
class FrameKey:
    """What digests of frames are keyed with.

    Attributes:
        pairs: uint64, shape (513,): a pair of 32-bit keys each, one more than a frame has.
        finish: uint64, shape (4,): below `PRIME`.
    """

    pairs: npt.NDArray[np.uint64]
    finish: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, key: MigrationKey) -> FrameKey:
        """The one of a migration."""
        pairs = np.frombuffer(key.stretch(b"frames", 8 * (PAIRS + 1)), "<u8")
        drawn = key.stretch(b"frames, finish", _HALVES * _DRAWN_BYTES)
        parts = (drawn[at : at + _DRAWN_BYTES] for at in range(0, len(drawn), _DRAWN_BYTES))
        finish = [int.from_bytes(part, "little") % PRIME for part in parts]
        return cls(pairs.astype(np.uint64), np.array(finish, np.uint64))


@cache
def public_key() -> FrameKey:
    """A public key, for digests that compare and prove nothing."""
    return FrameKey.of(MigrationKey(bytes(KEY_BYTES)))


@kernel
def _times(key: np.uint64, half: np.uint64) -> np.uint64:
    """`key` · `half` modulo `PRIME`, below 2**62; `key` below 2**61, `half` below 2**32.

    In two steps that 64 bits hold: key = high · 2**32 + low, and modulo 2**61 - 1 a factor of
    2**32 is a rotation of 61 bits.
    """
    high = (key >> _32) * half
    low = (key & _LOW) * half
    turned = ((high << _32) & _P) + (high >> _29)
    total = turned + (low & _P) + (low >> _61)
    return (total & _P) + (total >> _61)


@kernel
def _examine(
    frames: npt.NDArray[np.uint64],
    pairs: npt.NDArray[np.uint64],
    finish: npt.NDArray[np.uint64],
    out: Digests,
    zero: Flags,
) -> None:
    for i in range(frames.shape[0]):
        first, second, seen = np.uint64(0), np.uint64(0), np.uint64(0)
        for j in range(PAIRS):
            word, key, shifted = frames[i, j], pairs[j], pairs[j + 1]
            low, high = word & _LOW, word >> _32
            first += ((low + key) & _LOW) * ((high + (key >> _32)) & _LOW)
            second += ((low + shifted) & _LOW) * ((high + (shifted >> _32)) & _LOW)
            seen |= word
        zero[i] = seen == np.uint64(0)
        total = _times(finish[0], first & _LOW) + _times(finish[1], first >> _32)
        total = (total & _P) + (total >> _61)
        total += _times(finish[2], second & _LOW) + _times(finish[3], second >> _32)
        total = (total & _P) + (total >> _61)
        total = (total & _P) + (total >> _61)
        out[i] = np.uint64(0) if total == _P else total


def examine_frames(frames: Frames, key: FrameKey) -> tuple[Digests, Flags]:
    """The digest of each frame, and whether all of its bytes are zero, in one pass.

    Args:
        frames: uint8, shape (n, 4096), each row contiguous.
        key: of the digests.
    """
    out, zero = np.empty(len(frames), np.uint64), np.empty(len(frames), np.bool_)
    _examine(frames.view(np.uint64), key.pairs, key.finish, out, zero)
    return out, zero


def frame_digests(frames: Frames, key: FrameKey) -> Digests:
    """The digest of each frame; otherwise like `examine_frames`."""
    return examine_frames(frames, key)[0]
