"""Guest memory: real bytes, two views of one mapping, shareable through its file."""

from __future__ import annotations

import mmap
import struct

import pytest

from paging_core.errors import BadOption, LimitExceeded
from paging_core.memory import GuestMemory


def test_memory_starts_as_zeros_in_whole_frames() -> None:
    with GuestMemory(3) as memory:
        assert memory.n_frames == 3
        assert memory.frames.shape == (3, 4096)
        assert memory.words.shape == (3, 512)
        assert not memory.frames.any()


def test_words_and_bytes_are_one_memory_little_endian() -> None:
    with GuestMemory(2) as memory:
        memory.words[1, 2] = 0x0102030405060708
        assert bytes(memory.frames[1, 16:24]) == struct.pack("<q", 0x0102030405060708)
        memory.frames[0, 0] = 7
        assert memory.words[0, 0] == 7


def test_another_mapping_of_its_file_sees_every_write() -> None:
    with GuestMemory(2) as memory, mmap.mmap(memory.fd, 2 * 4096) as other:
        memory.frames[1, 5] = 42
        assert other[4096 + 5] == 42
        other[0] = 9
        assert memory.frames[0, 0] == 9


def test_populate_leaves_fresh_memory_zero() -> None:
    with GuestMemory(4) as memory:
        memory.populate()
        assert not memory.frames.any()


def test_closing_twice_is_harmless() -> None:
    with GuestMemory(1) as memory:
        memory.close()
    assert memory.fd == -1


@pytest.mark.parametrize("n_frames", [0, -1])
def test_no_frames_are_no_memory(n_frames: int) -> None:
    with pytest.raises(BadOption, match="has no memory"):
        GuestMemory(n_frames)


def test_more_than_the_machine_can_map_is_refused() -> None:
    with pytest.raises(LimitExceeded, match=r"cannot map.*use a smaller guest"):
        GuestMemory(2**50)
