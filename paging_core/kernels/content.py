"""Filling guest memory with content before the guest writes its own."""

from __future__ import annotations

import numpy as np

from paging_core.compiled import kernel
from paging_core.kernels.state import IntArray
from paging_core.units import WORDS_PER_FRAME

FILL_ZERO = 0
FILL_MIXED = 1
FILL_RANDOM = 2

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TEXT = np.uint64(0x2020202020202020)
_LETTERS = np.uint64(0x0F0F0F0F00000000)


@kernel
def _splitmix(counter: np.uint64) -> np.uint64:
    """SplitMix64 (Steele, Lea, Flood 2014) of a counter: independent words, no state."""
    z = counter * _STEP
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def fill_frames(memory: IntArray, first: int, mode: int, seed: int) -> None:
    """Fill frames from `first` on: all random, or by frame a third zero, text-like, random."""
    start = _splitmix(np.uint64(seed) + np.uint64(1))
    for gfn in range(first, memory.shape[0]):
        kind = 2
        if mode == FILL_MIXED:
            kind = int(_splitmix(start ^ np.uint64(gfn)) % np.uint64(3))
        if kind == 0:
            continue
        counter = start + np.uint64(gfn) * np.uint64(WORDS_PER_FRAME)
        for i in range(WORDS_PER_FRAME):
            word = _splitmix(counter + np.uint64(i))
            if kind == 1:
                word = _TEXT | (word & _LETTERS)
            memory[gfn, i] = np.int64(word)
