"""Dirty bitmaps outside the kernels: packed words and the frames that they name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.guest import DirtyWords

GfnArray = npt.NDArray[np.int64]
"""Guest frame numbers, ascending."""


def n_words(n_frames: int) -> int:
    """Words that a bitmap of `n_frames` frames takes."""
    return -(-n_frames // 64)


def frames_of(words: DirtyWords) -> GfnArray:
    """The set bits of a bitmap as ascending gfns, int64."""
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).astype(np.int64)


def words_of(gfns: npt.NDArray[np.integer], n_frames: int) -> DirtyWords:
    """A bitmap of `n_frames` frames with the bits of `gfns` set."""
    bits = np.zeros(n_words(n_frames) * 64, np.uint8)
    bits[gfns] = 1
    return np.packbits(bits, bitorder="little").view(np.uint64)


def count(words: DirtyWords) -> int:
    """How many frames a bitmap names."""
    return int(np.bitwise_count(words).sum())
