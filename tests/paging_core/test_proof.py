"""The proof against two other implementations, and what it must not overlook."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.errors import MigrationCancelled
from paging_core.migration_key import MigrationKey
from paging_core.proof import Proof, state_tag
from tests import keyed

FRAMES = np.random.default_rng(3).integers(0, 256, (97, 4096), np.uint8)


@pytest.mark.parametrize("n_frames", [1, 31, 32, 33, 97])
def test_the_tree_is_the_documented_one(n_frames: int) -> None:
    frames = FRAMES[:n_frames]
    proof = Proof(frames, keyed.KEY)
    expected = keyed.proof([frame.tobytes() for frame in frames])
    assert proof.top == len(expected) - 1
    for level, tags in enumerate(expected):
        assert proof.n_nodes(level) == len(tags)
        assert proof.tags(level, range(len(tags)), frames).tobytes() == b"".join(tags)
    assert proof.root == expected[-1][0]


def test_a_tree_of_three_levels_of_tags() -> None:
    """513 leaves and a part of one: the level above the leaves has two nodes."""
    frames = np.zeros((513 * 32 + 5, 4096), np.uint8)
    frames[[0, 16_000, -1], 17] = 1
    proof = Proof(frames, keyed.KEY)
    assert [proof.n_nodes(level) for level in range(4)] == [513 * 32 + 5, 514, 2, 1]
    assert proof.top == 3
    assert proof.children(1, 513) == range(513 * 32, 513 * 32 + 5)
    assert proof.children(2, 1) == range(512, 514)
    assert proof.tags(1, [513], frames).tobytes() == keyed.tag(1, 513, frames[-5:].tobytes())
    leaves = proof.tags(1, range(514), frames).tobytes()
    nodes = [keyed.tag(2, 0, leaves[: 512 * 16]), keyed.tag(2, 1, leaves[512 * 16 :])]
    assert proof.root == keyed.tag(3, 0, b"".join(nodes))
    for level in range(1, 4):
        for node in range(proof.n_nodes(level)):
            assert {proof.parent(level - 1, c) for c in proof.children(level, node)} == {node}


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_a_tag_is_gmac_by_the_standard(content: bytes, level: int, index: int) -> None:
    """The library's two interfaces, and the standard block by block."""
    assert keyed.tag(level, index, content) == keyed.plain_tag(level, index, content)


def test_the_tag_of_a_frame_and_of_a_state_is_gmac_by_the_standard() -> None:
    proof = Proof(FRAMES[:1], keyed.KEY)
    expected = keyed.plain_tag(0, 0, FRAMES[0].tobytes())
    assert proof.tags(0, [0], FRAMES[:1]).tobytes() == expected
    assert state_tag(keyed.KEY, b"registers") == keyed.plain_tag(keyed.STATE, 0, b"registers")
    assert state_tag(keyed.KEY, b"registers") != state_tag(keyed.KEY, b"registers\0")


@given(st.integers(0, 96), st.integers(0, 4095), st.integers(1, 255))
def test_one_changed_byte_is_found_from_the_root_down(gfn: int, byte: int, change: int) -> None:
    before, changed = Proof(FRAMES, keyed.KEY), FRAMES.copy()
    changed[gfn, byte] ^= np.uint8(change)
    after = Proof(changed, keyed.KEY)
    for level, node in ((2, 0), (1, gfn // 32), (0, gfn)):
        nodes = range(before.n_nodes(level))
        differs = before.tags(level, nodes, FRAMES) != after.tags(level, nodes, changed)
        assert np.flatnonzero(differs.any(axis=1)).tolist() == [node]


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 32), (5, 70)])
def test_frames_that_changed_places_are_found(one: int, other: int) -> None:
    swapped = FRAMES.copy()
    swapped[[one, other]] = FRAMES[[other, one]]
    assert Proof(swapped, keyed.KEY).root != Proof(FRAMES, keyed.KEY).root


class OneKey(MigrationKey):
    """Gives every level the same key, as a simpler proof might."""

    def stretch(self, purpose: bytes, n_bytes: int) -> bytes:
        return super().stretch(purpose[:0], n_bytes)


def test_changes_of_two_leaves_do_not_cancel() -> None:
    """GMAC is a polynomial: under one key for all levels these two changes meet at one power."""
    changed = FRAMES.copy()
    leaf = 32 * 4096
    changed.reshape(-1)[16:32] ^= 0x5A
    changed.reshape(-1)[leaf : leaf + 16] ^= 0x5A
    one_key = OneKey(keyed.SECRET)
    assert Proof(changed, one_key).root == Proof(FRAMES, one_key).root
    assert Proof(changed, keyed.KEY).root != Proof(FRAMES, keyed.KEY).root


def test_another_key_is_another_root() -> None:
    assert Proof(FRAMES, MigrationKey.of_seed(1)).root != Proof(FRAMES, keyed.KEY).root


def test_it_can_be_cancelled() -> None:
    cancelled = Event()
    cancelled.set()
    with pytest.raises(MigrationCancelled):
        Proof(FRAMES, keyed.KEY, cancelled.is_set)
