"""Which pages a process wrote: exactly those that it was told to, whatever it does besides."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pageferry.record.attach import attach
from pageferry.record.errors import CannotRecord
from pageferry.record.tracker import Gone, Tracker
from tests.record.conftest import Track, Writing, within

READ, READ_WRITE, READ_EXECUTE, NONE = 1, 3, 5, 0


def test_writes_are_found_once(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, 5, 6, 7)
    tracker = track()
    assert within(tracker.take().pages, memory, 100) == []
    writing.tell("write", memory, 2, 3, 6, 99)
    assert within(tracker.written_since(), memory, 100) == [3, 6, 99]
    assert within(tracker.take().pages, memory, 100) == [3, 6, 99]
    assert within(tracker.take().pages, memory, 100) == []


def test_pages_that_are_only_read_are_not_written(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, 5)
    tracker = track()
    writing.tell("read", memory, 5, 6, 7)  # one that is there, two that become the page of zeros
    assert within(tracker.take().pages, memory, 100) == []
    writing.tell("write", memory, 1, 6)
    assert within(tracker.take().pages, memory, 100) == [6]


def test_new_memory_is_followed(writing: Writing, track: Track) -> None:
    tracker = track()
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, 10, 11)
    writing.tell("read", memory, 50)
    assert within(tracker.take().pages, memory, 100) == [10, 11]
    writing.tell("write", memory, 2, 11, 12)
    assert within(tracker.take().pages, memory, 100) == [11, 12]


def test_memory_at_a_place_that_was_used_before_is_followed(writing: Writing, track: Track) -> None:
    room = writing.tell("private", 102)
    memory = room + 4096  # the mapping shall stand alone, so that another one looks the same
    for end in (room, room + 101 * 4096):
        writing.tell("protect", end, 1, NONE)
    tracker = track()
    writing.tell("write", memory, 1, 10)
    assert within(tracker.take().pages, memory, 100) == [10]
    writing.tell("again", memory, 100)
    writing.tell("write", memory, 1, 20)
    assert within(tracker.take().pages, memory, 100) == [20]
    writing.tell("write", memory, 1, 21)
    assert within(tracker.take().pages, memory, 100) == [21]


@pytest.mark.parametrize("modes", [READ, READ_EXECUTE])
def test_memory_is_written_and_then_protected_by_the_program(
    writing: Writing, track: Track, modes: int
) -> None:
    tracker = track()
    fresh = writing.tell("private", 100)
    writing.tell("write", fresh, 1, 10)
    writing.tell("protect", fresh, 100, modes)
    assert within(tracker.take().pages, fresh, 100) == [10]
    writing.tell("protect", fresh, 100, READ_WRITE)
    writing.tell("write", fresh, 1, 11)
    writing.tell("protect", fresh, 100, NONE)
    assert within(tracker.take().pages, fresh, 100) == [11]


def test_memory_that_grows_and_moves_is_written_anew_where_it_is(
    writing: Writing, track: Track
) -> None:
    memory = writing.tell("private", 100)
    writing.tell("private", 1)  # nothing shall grow in place
    writing.tell("write", memory, 1, 10)
    tracker = track()
    moved = writing.tell("move", memory, 100)
    assert within(tracker.take().pages, moved, 200) == [10]
    writing.tell("write", moved, 1, 150)
    assert within(tracker.take().pages, moved, 200) == [150]


def test_memory_given_back_is_not_written_until_it_is(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, 10, 11)
    tracker = track()
    writing.tell("drop", memory, 100)
    assert within(tracker.take().pages, memory, 100) == []
    writing.tell("write", memory, 1, 11)
    assert within(tracker.take().pages, memory, 100) == [11]


def test_shared_memory(writing: Writing, track: Track) -> None:
    memory = writing.tell("memfd", 100)
    writing.tell("read", memory, 1)
    tracker = track()
    writing.tell("read", memory, 1, 2, 3)
    assert within(tracker.take().pages, memory, 100) == []
    writing.tell("write", memory, 2, 3, 4)
    assert within(tracker.take().pages, memory, 100) == [3, 4]
    writing.tell("read", memory, 4, 5)
    assert within(tracker.take().pages, memory, 100) == []


def test_shared_memory_that_is_new_counts_what_is_there(writing: Writing, track: Track) -> None:
    tracker = track()
    memory = writing.tell("memfd", 600)
    writing.tell("write", memory, 2, 500)
    assert 500 in within(tracker.take().pages, memory, 600)
    writing.tell("read", memory, 2, 3)
    writing.tell("write", memory, 2, 501)
    assert within(tracker.take().pages, memory, 600) == [501]


def test_a_private_file_is_written_where_it_was_copied(writing: Writing, track: Track) -> None:
    memory = writing.tell("file", 100)
    writing.tell("write", memory, 2, 9)
    tracker = track()
    writing.tell("read", memory, 9, 10, 11)
    assert within(tracker.take().pages, memory, 100) == []
    writing.tell("write", memory, 3, 9, 11, 12)
    assert within(tracker.take().pages, memory, 100) == [9, 11, 12]


def test_after_a_fork_the_parent_is_recorded_and_the_child_is_not(
    writing: Writing, track: Track
) -> None:
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, 10, 11, 12)
    tracker = track()
    assert writing.tell("fork_and_write", memory, 7, 11) == 0
    assert within(tracker.take().pages, memory, 100) == []
    writing.tell("write", memory, 2, 10)
    assert within(tracker.take().pages, memory, 100) == [10]
    writing.tell("write", memory, 2, 10)
    assert within(tracker.take().pages, memory, 100) == [10]


def test_a_huge_page_that_appears_is_512_pages_and_then_single_ones(
    writing: Writing, track: Track
) -> None:
    tracker = track()
    memory = writing.tell("huge")
    writing.tell("write", memory, 2, 100)
    written = tracker.take()
    if written.huge < 512:
        pytest.skip("this kernel gives no transparent huge page")
    assert within(written.pages, memory, 512) == list(range(512))
    writing.tell("write", memory, 2, 7, 300)
    written = tracker.take()
    assert (within(written.pages, memory, 512), written.huge) == ([7, 300], 0)


def test_a_part_of_memory_can_be_tracked_alone(writing: Writing) -> None:
    memory = writing.tell("private", 100)
    with attach(writing.pid) as attached:
        tracker = Tracker(writing.pid, attached, range(memory + 10 * 4096, memory + 20 * 4096))
    with tracker:
        tracker.take()
        writing.tell("write", memory, 1, 9, 10, 19, 20)
        assert [page - (memory >> 12) for page in tracker.take().pages.tolist()] == [10, 19]


def test_nothing_is_left_behind(writing: Writing, track: Track) -> None:
    memory = writing.tell("private", 100)
    files = writing.tell("open_files")
    for _ in range(3):
        tracker = track()
        writing.tell("write", memory, 1, 3)
        assert within(tracker.take().pages, memory, 100) == [3]
        tracker.close()
        assert writing.tell("open_files") == files
    text = Path(f"/proc/{writing.pid}/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines())
    assert status["TracerPid"] == "0"
    assert status["SigBlk"] == "0" * 16
    assert " uw" not in Path(f"/proc/{writing.pid}/smaps").read_text()


def test_a_second_recorder_is_told_of_the_first(writing: Writing, track: Track) -> None:
    track()
    with (
        attach(writing.pid) as attached,
        Tracker(writing.pid, attached) as second,
        pytest.raises(CannotRecord, match="another userfaultfd"),
    ):
        second.take()


def test_a_process_that_ends_or_executes_is_gone(writing: Writing, track: Track) -> None:
    tracker = track()
    writing.begin("execute")
    while Path(f"/proc/{writing.pid}/comm").read_text() != "sleep\n":
        pass
    with pytest.raises(Gone):
        tracker.take()
    tracker.close()
    tracker = track()
    writing.process.send_signal(signal.SIGKILL)
    writing.process.wait()
    with pytest.raises(Gone):
        tracker.take()
