"""What a machine ran out of is told from a bug, and from a fault of the input."""

from __future__ import annotations

import errno
import gc
import os
import resource
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from paging_core.config import GuestConfig
from paging_core.errors import BadTrace, GuestOutOfMemory, LimitExceeded, forget_frames
from paging_core.exhaustion import named_limits, ran_out, ran_out_as_told
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.traces.reader import TraceFile

SQLITE = Path(__file__).parents[2] / "examples" / "traces" / "sqlite.parquet"


@pytest.mark.parametrize(
    ("number", "names", "way_out"),
    [
        (errno.EMFILE, "file descriptors", "ulimit -n"),
        (errno.ENFILE, "file descriptors of the whole machine", "fs.file-max"),
        (errno.ENOMEM, "memory", "ulimit -v"),
        (errno.ENOSPC, "room on a disk", "make room"),
        (errno.EDQUOT, "quota", "quota"),
        (errno.ENOBUFS, "sockets", "connections"),
    ],
)
def test_errors_of_the_system(number: int, names: str, way_out: str) -> None:
    limit = ran_out(OSError(number, os.strerror(number)))
    assert isinstance(limit, LimitExceeded)
    assert limit.grpc_status == "RESOURCE_EXHAUSTED"
    said = str(limit)
    assert names in said
    assert way_out in said
    assert "\n" not in said


def test_real_ones(tmp_path: Path) -> None:
    """Real ones, not invented ones."""
    with pytest.raises(LimitExceeded, match="ran out of memory"), named_limits():
        np.empty(2**60, np.uint8)
    with few_files(), pytest.raises(LimitExceeded, match="file descriptors"), named_limits():
        (tmp_path / "file").open("w")
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(LimitExceeded, match="room on a disk"),
        named_limits(),
    ):
        full.write(b"x")


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the very words of the interpreter."""

    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "_start_new_thread", none_left)
    with pytest.raises(LimitExceeded, match=r"threads .*ulimit -u"), named_limits():
        threading.Thread(target=print).start()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "no such file"), RuntimeError("dictionary changed"), KeyError()]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert ran_out(error) is None
    with pytest.raises(type(error)), named_limits():
        raise error


def test_what_a_library_wrote() -> None:
    limit = ran_out_as_told("INTERNAL: ipv4:127.0.0.1:1: socket: Too many open files \0")
    assert limit is not None
    assert "ulimit -n" in str(limit)
    assert ran_out_as_told("Connection refused") is None


@contextmanager
def few_files() -> Iterator[None]:
    """Not one more can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = next(number for number in range(before[0]) if not is_open(number))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_trace_for_which_there_is_no_file_descriptor_is_not_damaged() -> None:
    with few_files(), pytest.raises(LimitExceeded, match="file descriptors"):
        TraceFile(str(SQLITE))


def test_a_trace_that_is_refused_is_not_left_open(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(SQLITE.read_bytes()[:-100])
    kept = []
    for _ in range(3):
        with pytest.raises(BadTrace) as caught:
            TraceFile(str(damaged))
        kept.append(caught)
    assert not [name for name in opened() if name == str(damaged)]


def opened() -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(each.readlink()))
        except OSError:
            continue
    return found


def test_a_boot_that_fails_gives_memory_and_trace_back_though_its_error_is_kept() -> None:
    before = [name for name in opened() if "memfd" in name or name == str(SQLITE)]
    kept = []
    for _ in range(3):
        with pytest.raises(GuestOutOfMemory) as caught:
            ModelGuest.boot(GuestConfig(1 << 20, trace=str(SQLITE)))
        kept.append(caught.value)
    after = [name for name in opened() if "memfd" in name or name == str(SQLITE)]
    assert after == before
    assert all(error.__traceback__ for error in kept)


def test_an_error_that_is_kept_holds_nothing() -> None:
    """Neither it nor what it was raised from; without the collector of cycles."""

    def fail() -> None:
        memory = GuestMemory(1)
        seen.append(weakref.ref(memory))
        try:
            seen[1:1]["nothing"]  # type: ignore[call-overload]
        except TypeError as inner:
            raise RuntimeError(memory.n_frames) from inner

    seen: list[weakref.ref[GuestMemory]] = []
    gc.disable()
    try:
        kept: list[BaseException] = []
        try:
            fail()
        except RuntimeError as error:
            kept.append(error)
        assert seen[0]() is not None
        forget_frames(kept[0])
        assert seen[0]() is None
        assert kept[0].__cause__ is None
    finally:
        gc.enable()


def test_operations_that_could_not_be_made_are_made_the_next_time() -> None:
    """And not taken from what was left in the buffer."""
    config = GuestConfig(4 << 20, workload="hotcold:wss=1MiB")
    guest, twin = ModelGuest.boot(config), ModelGuest.boot(config)
    fill = guest.workload.fill
    calls = []

    def starved(position: int, ops: object) -> None:
        calls.append(position)
        if len(calls) == 2:
            raise MemoryError
        fill(position, ops)  # type: ignore[arg-type]

    guest.workload.fill = starved  # type: ignore[method-assign]
    guest.run_accesses(16384)
    with pytest.raises(MemoryError):
        guest.run_accesses(1)
    guest.run_accesses(10_000)
    twin.run_accesses(26_384)
    assert guest.position == twin.position
    assert np.array_equal(guest.memory.words, twin.memory.words)
    guest.close()
    twin.close()
