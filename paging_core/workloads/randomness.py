"""Counter-based randomness: a draw is a function of a key and a position, and of nothing else.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) used
as a hash of a counter. Integers only, so every machine draws the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0xFFFFFFFF)

UNIT = 1 << 32
"""What a fraction is counted in where 32 random bits decide: 0 is never, UNIT is always."""


@kernel
def splitmix64(counter: np.uint64) -> np.uint64:
    """64 random bits of a counter."""
    z = counter * _STEP
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def draw_at(key: int, position: int) -> np.uint64:
    """The 64 random bits of `position` in the sequence `key`."""
    return splitmix64(np.uint64(key) + np.uint64(position))


@kernel
def more(draw: np.uint64, which: int) -> np.uint64:
    """64 bits more for the same position; each `which` gives others."""
    return splitmix64(draw + np.uint64(which))


@kernel
def high(draw: np.uint64) -> int:
    """The upper 32 bits, 0 … UNIT - 1."""
    return int(np.int64(draw >> np.uint64(32)))


@kernel
def low(draw: np.uint64) -> int:
    """The lower 32 bits, 0 … UNIT - 1; independent of the upper ones."""
    return int(np.int64(draw & _LOW))


@kernel
def below(bits: int, bound: int) -> int:
    """32 random bits scaled to 0 … bound - 1, for a bound under 2**31."""
    return (bits * bound) >> 32


@kernel
def fill_draws(key: int, first: int, out: npt.NDArray[np.int64]) -> None:
    """The draws of positions `first` … as int64, one per element of `out`."""
    for i in range(out.shape[0]):
        out[i] = np.int64(draw_at(key, first + i))


@kernel
def fill_draws_at(key: int, positions: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> None:
    """The draws of any positions, as int64."""
    for i in range(out.shape[0]):
        out[i] = np.int64(draw_at(key, positions[i]))


def key_of(seed: int, purpose: str) -> int:
    """The key of one sequence of a seed, as an int64; purposes have nothing in common."""
    key = seed
    for byte in purpose.encode():
        key = _splitmix64_of(key ^ byte)
    return key - 2**64 if key >= 2**63 else key


def _splitmix64_of(counter: int) -> int:
    """`splitmix64` of a plain integer plus one, without compiling anything."""
    mask = 2**64 - 1
    z = (counter + 1) * int(_STEP) & mask
    z = (z ^ (z >> 30)) * int(_MIX_1) & mask
    z = (z ^ (z >> 27)) * int(_MIX_2) & mask
    return z ^ (z >> 31)


def in_units(fraction: float) -> int:
    """A fraction as the number of UNIT parts that `low` or `high` is compared with."""
    return round(fraction * UNIT)
