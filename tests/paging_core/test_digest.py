"""Digests of frames against a second implementation, a case by hand, and those who collide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest as xxh64

from paging_core.digest import FrameKey, examine_frames, frame_digests, public_key
from paging_core.errors import BadOption, MigrationCancelled
from paging_core.migration_key import MigrationKey
from tests import keyed
from tests.paging_core.collisions import cancelling_difference, same_xxh64
from wire.memory_digest import digest_memory

KEY = FrameKey.of(keyed.KEY)


def random_frames(n: int, seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (n, 4096), np.uint8)


@given(st.integers(0, 2**32 - 1))
def test_a_frame_has_the_digest_of_the_second_implementation(seed: int) -> None:
    frames = random_frames(2, seed)
    frames[1, 100:] = 0
    secret = np.random.default_rng(seed).bytes(32)
    key = FrameKey.of(MigrationKey(secret))
    expected = [keyed.frame_digest(frame.tobytes(), secret) for frame in frames]
    assert frame_digests(frames, key).tolist() == expected


def test_a_case_by_hand() -> None:
    """With keys of 1 and 2 alone the sums can be done on paper.

    Words 3 and 5 at the front, all others 0. First sum: (3+1)(5+2) + 511 · (0+1)(0+2) = 1050.
    The second has the keys from the third word on, which are 1 and 2 again, but for the last
    pair: 10 and 20. (3+1)(5+2) + 510 · 2 + 10 · 20 = 1248. Finish: 7 · 1050 + 11 · 1248.
    """
    pairs = np.full(513, 1 + (2 << 32), np.uint64)
    pairs[512] = 10 + (20 << 32)
    key = FrameKey(pairs, np.array([7, 0, 11, 0], np.uint64))
    frames = np.zeros((1, 4096), np.uint8)
    frames.view(np.uint32)[0, :2] = (3, 5)
    assert frame_digests(frames, key).tolist() == [7 * 1050 + 11 * 1248]


@pytest.mark.parametrize("word", [0, 1, 2**32 - 1, 2**31])
@pytest.mark.parametrize("factor", [0, 1, 2**61 - 2, 2**60])
def test_sums_that_carry(word: int, factor: int) -> None:
    """Of the largest and smallest words and keys: nothing is lost at 32, 61 and 64 bits."""
    pairs = np.full(513, word | word << 32, np.uint64)
    key = FrameKey(pairs, np.full(4, factor, np.uint64))
    frames = np.full((1, 1024), word, np.uint32).view(np.uint8)
    total = 512 * (2 * word % 2**32) ** 2 % 2**64
    halves = 2 * (total % 2**32) + 2 * (total >> 32)
    assert frame_digests(frames, key).tolist() == [factor * halves % keyed.P]


@given(st.integers(0, 4095), st.integers(1, 255))
def test_only_a_frame_of_zeros_is_zero(byte: int, value: int) -> None:
    frames = np.zeros((3, 4096), np.uint8)
    frames[1, byte] = value
    digests, zero = examine_frames(frames, KEY)
    assert zero.tolist() == [True, False, True]
    assert digests.tolist() == [keyed.frame_digest(frame.tobytes()) for frame in frames]


def test_a_slice_of_memory_is_digested_without_its_neighbours() -> None:
    frames = random_frames(6)
    every_other = frames[1::2]
    expected = [keyed.frame_digest(frame.tobytes()) for frame in every_other]
    assert frame_digests(every_other, KEY).tolist() == expected


def test_another_key_is_another_digest() -> None:
    frames = random_frames(1)
    keys = [KEY, public_key(), FrameKey.of(MigrationKey.of_seed(0))]
    assert len({int(frame_digests(frames, key)[0]) for key in keys}) == 3


@pytest.mark.parametrize("page", [bytes(4096), b"balance 100 EUR." * 256, bytes(range(256)) * 16])
def test_pages_that_collide_for_all_the_world_do_not_here(page: bytes) -> None:
    """Two pages with one XXH64, computed from the specification: the attack that was possible."""
    other = same_xxh64(page, word=8, value=0x3132333435363738)
    assert other != page
    assert xxh64(other) == xxh64(page)
    frames = np.frombuffer(page + other, np.uint8).reshape(2, 4096)
    digests, zero = examine_frames(frames, KEY)
    assert digests[0] != digests[1]
    assert zero.tolist() == [not any(page), False]


def test_differences_that_cancel_under_any_seed_do_not_here() -> None:
    """A seed hides the state of XXH64 and not how differences go through it: half collide."""
    pages = random_frames(64)
    others = np.stack([cancelling_difference(page) for page in pages])
    for seed in (0, 2**63 + 12345):
        both = zip(pages, others, strict=True)
        same = sum(xxh64(a.tobytes(), seed) == xxh64(b.tobytes(), seed) for a, b in both)
        assert 8 < same < 56
    digests = frame_digests(pages, KEY)
    assert not (digests == frame_digests(others, KEY)).any()


def test_memory_has_the_digest_of_the_second_implementation() -> None:
    frames = random_frames(33)
    frames[7] = 0
    assert digest_memory(frames) == keyed.memory_digest([frame.tobytes() for frame in frames])


def test_a_digest_of_memory_can_be_cancelled() -> None:
    from threading import Event  # noqa: PLC0415

    cancelled = Event()
    cancelled.set()
    with pytest.raises(MigrationCancelled):
        digest_memory(random_frames(1), cancelled)


def test_keys_of_migrations() -> None:
    drawn = {MigrationKey.random().secret for _ in range(8)}
    assert len(drawn) == 8
    assert MigrationKey.of_seed(7) == MigrationKey.of_seed(7)
    assert len({MigrationKey.of_seed(seed) for seed in (0, 1, 2**63 - 1)}) == 3
    key = MigrationKey(b"\xab" * 32)
    assert "ab" * 4 not in repr(key)
    assert "\\xab" not in repr(key)
    with pytest.raises(BadOption, match="32 bytes, not 31"):
        MigrationKey(bytes(31))
