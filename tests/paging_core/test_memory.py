"""Guest memory: real bytes, two views of one mapping, shareable through its file."""

from __future__ import annotations

import gc
import mmap
import resource
import struct
import subprocess
import sys
from pathlib import Path
from signal import SIGSEGV

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


@pytest.mark.parametrize("left_mib", [200, 300])
def test_a_guest_that_leaves_its_process_no_addresses_is_refused(left_mib: int) -> None:
    """256 MiB are to be left beside 8 MiB and a guard of 64 MiB on either side of them."""
    code = f"""
import resource
from pathlib import Path
from paging_core.errors import LimitExceeded
from paging_core.memory import GuestMemory
GuestMemory(1).close()
taken = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (taken + (8 + 128 + {left_mib} << 20),) * 2)
try:
    GuestMemory(2048).close()
    print("mapped")
except LimitExceeded as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("mapped" in done.stdout) is (left_mib > 256)
    assert ("ulimit -v" in done.stdout) is (left_mib < 256)


def shared_kib() -> int:
    """Memory files' pages that this process holds mapped, by the kernel's own account."""
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssShmem"))


def files_open() -> int:
    links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return sum("pageferry-counted" in str(link.readlink()) for link in links)


def access_at(address: int) -> str:
    """What this process may do at an address ("rw-s" …), by the kernel's own account."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access = line.split()[:2]
        start, end = (int(edge, 16) for edge in span.split("-"))
        if start <= address < end:
            return access
    return "none"


def test_closing_gives_everything_back_though_arrays_are_kept() -> None:
    before = shared_kib()
    memory = GuestMemory(8192, "counted")
    memory.frames[:] = 7
    kept = memory.frames, memory.words
    assert shared_kib() - before >= 8192 * 4
    assert files_open() == 1
    memory.close()
    assert shared_kib() - before < 64
    assert files_open() == 0
    # An array that is still in use ends no process.
    assert not kept[0].any()
    kept[1][0, 0] = 1
    assert kept[0][0, 0] == 1


def test_an_exception_that_is_kept_keeps_no_memory() -> None:
    before = shared_kib()

    def fail() -> None:
        with GuestMemory(8192) as memory:
            frames = memory.frames
            frames[:] = 1
            raise BadOption("kept with all that it refers to")

    with pytest.raises(BadOption) as kept:
        fail()
    assert kept.value.__traceback__ is not None
    assert shared_kib() - before < 64


def test_a_memory_that_is_dropped_lives_as_long_as_its_arrays() -> None:
    memory = GuestMemory(64, "counted")
    words = memory.words
    words[3, 3] = 42
    address = words.ctypes.data
    del memory
    gc.collect()
    assert files_open() == 0
    assert words[3, 3] == 42
    del words
    gc.collect()
    assert not access_at(address).startswith("rw-s")


@pytest.mark.parametrize("n_frames", [1, 300, 8192])
def test_no_guest_is_the_neighbour_of_anything(n_frames: int) -> None:
    guests = [GuestMemory(n_frames) for _ in range(4)]
    for guest in guests:
        first = guest.frames.ctypes.data
        end = first + guest.frames.nbytes
        assert access_at(first) == access_at(end - 1) == "rw-s"
        for distance in (1, 4096, 2 << 20, 64 << 20):
            assert access_at(first - distance) == "---p"
            assert access_at(end - 1 + distance) == "---p"
    for guest in guests:
        guest.close()


def test_what_runs_over_the_end_meets_nothing() -> None:
    """In a process of its own, for it ends there."""
    program = (
        "import ctypes; from paging_core.memory import GuestMemory\n"
        "memory = GuestMemory(4); other = GuestMemory(4)\n"
        "ctypes.memset(memory.frames.ctypes.data + memory.frames.nbytes, 1, 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -SIGSEGV


def test_no_file_descriptor_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(LimitExceeded, match=r"no file descriptor is left.*ulimit -n"):
            GuestMemory(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
