"""Digests of frames against the xxHash library, and the tree against its specification."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from paging_core import digest
from paging_core.digest import DigestTree


def random_frames(n: int, seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (n, 4096), np.uint8)


def xxh64(data: bytes) -> int:
    return xxhash.xxh64_intdigest(data, seed=0)


def by_hand(leaves: list[int]) -> list[list[int]]:
    """The tree as destination.proto words it, one node at a time."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = b"".join(value.to_bytes(8, "little") for value in levels[-1])
        below += bytes(-len(below) % 4096)
        levels.append([xxh64(below[at : at + 4096]) for at in range(0, len(below), 4096)])
    return levels


@given(st.integers(0, 2**32 - 1))
def test_a_frame_hashes_like_the_library(seed: int) -> None:
    frames = random_frames(2, seed)
    frames[1, 100:] = 0
    assert digest.frame_digests(frames).tolist() == [xxh64(f.tobytes()) for f in frames]


def test_the_zero_frame_has_a_name() -> None:
    assert xxh64(bytes(4096)) == digest.ZERO_FRAME
    assert digest.frame_digests(np.zeros((1, 4096), np.uint8)).tolist() == [digest.ZERO_FRAME]


def test_digests_go_where_they_are_asked() -> None:
    out = np.zeros(3, np.uint64)
    frames = random_frames(3)
    assert digest.frame_digests(frames, out) is out
    assert out.tolist() == [xxh64(f.tobytes()) for f in frames]


def test_a_slice_of_memory_hashes_without_a_copy_of_its_neighbours() -> None:
    frames = random_frames(6)
    every_other = frames[1::2]
    assert digest.frame_digests(every_other).tolist() == [xxh64(f.tobytes()) for f in every_other]


@pytest.mark.parametrize("n_leaves", [1, 2, 511, 512, 513, 1025, 512 * 512 + 1])
def test_the_tree_is_the_specified_one(n_leaves: int) -> None:
    leaves = np.random.default_rng(n_leaves).integers(0, 2**64, n_leaves, np.uint64)
    tree = DigestTree(leaves)
    expected = by_hand(leaves.tolist())
    assert [level.tolist() for level in tree.levels] == expected
    assert tree.root == expected[-1][0]


def test_the_tree_of_memory_stands_on_its_frames() -> None:
    frames = random_frames(3)
    assert DigestTree.of(frames).levels[0].tolist() == digest.frame_digests(frames).tolist()


@given(st.integers(0, 1299), st.integers(0, 4095), st.integers(1, 255))
def test_one_changed_byte_is_found_from_the_root_down(gfn: int, byte: int, change: int) -> None:
    frames = np.zeros((1300, 4096), np.uint8)
    before = DigestTree.of(frames)
    frames[gfn, byte] ^= np.uint8(change)
    after = DigestTree.of(frames)
    differing = [
        np.flatnonzero(old != new).tolist()
        for old, new in zip(before.levels, after.levels, strict=True)
    ]
    assert differing == [[gfn], [gfn // 512], [0]]
