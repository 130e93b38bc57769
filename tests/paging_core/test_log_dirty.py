"""Dirty bitmaps outside the kernels, against sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paging_core import log_dirty

N_FRAMES = 300
SETS = st.sets(st.integers(0, N_FRAMES - 1))


def bits_by_hand(gfns: set[int]) -> list[int]:
    words = [0] * 5
    for gfn in gfns:
        words[gfn // 64] |= 1 << gfn % 64
    return words


@given(SETS)
def test_a_bitmap_has_bit_gfn_mod_64_of_word_gfn_div_64(gfns: set[int]) -> None:
    words = log_dirty.words_of(np.array(sorted(gfns), np.int64), N_FRAMES)
    assert words.dtype == np.uint64
    assert words.tolist() == bits_by_hand(gfns)


@given(SETS)
def test_frames_come_back_ascending(gfns: set[int]) -> None:
    found = log_dirty.frames_of(np.array(bits_by_hand(gfns), np.uint64))
    assert found.dtype == np.int64
    assert found.tolist() == sorted(gfns)


@given(SETS)
def test_count_counts_frames(gfns: set[int]) -> None:
    assert log_dirty.count(np.array(bits_by_hand(gfns), np.uint64)) == len(gfns)


def test_a_bitmap_ends_with_the_word_of_the_last_frame() -> None:
    assert [log_dirty.n_words(n) for n in (1, 64, 65, 256, 257)] == [1, 1, 2, 4, 5]
    assert log_dirty.words_of(np.array([], np.int64), 65).tolist() == [0, 0]


def test_order_and_repetition_of_frames_do_not_matter() -> None:
    words = log_dirty.words_of(np.array([70, 3, 70]), 128)
    assert log_dirty.frames_of(words).tolist() == [3, 70]
