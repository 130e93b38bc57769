"""How pages with one XXH64 are made, by its specification (Y. Collet, xxHash 0.1.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MASK = 2**64 - 1
_P1, _P2 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
_START = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
_INVERSE_P2 = pow(_P2, -1, 2**64)


def _round(lane: int, word: int) -> int:
    lane = (lane + word * _P2) & _MASK
    return (((lane << 31) | (lane >> 33)) & _MASK) * _P1 & _MASK


def same_xxh64(page: bytes, word: int, value: int) -> bytes:
    """`page` with one 8-byte word set to `value`, and the next word of its lane put right."""
    words = [int(each) for each in np.frombuffer(page, "<u8")]
    lane = _START[word % 4]
    for at in range(word % 4, word, 4):
        lane = _round(lane, words[at])
    difference = _round(lane, words[word]) - _round(lane, value)
    words[word + 4] = (words[word + 4] + difference * _INVERSE_P2) & _MASK
    words[word] = value
    return np.array(words, "<u8").tobytes()


def cancelling_difference(page: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`page` with two words changed so that half of all seeds of XXH64 do not notice.

    The top bit of a lane's state flips, whatever the state is; rotated by 31 it is bit 30, times
    P1 a difference of plus or minus 2**30 · P1; the next word takes one of the two away.
    """
    words = page.view("<u8").copy()
    words[8:9] += np.uint64(2**63)  # odd times 2**63 is 2**63: the top bit of the lane
    words[12:13] += np.uint64((2**30 * _P1 * _INVERSE_P2) & _MASK)
    return words.view(np.uint8)
