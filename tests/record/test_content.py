"""Whether writes changed anything: told exactly where it can be known, and not at all elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.record.content import Contents
from pageferry.record.tracker import Pages, Tracker, Written
from paging_core.traces.written.schema import CHANGED, NOT_MEASURED, SAME
from tests.record.conftest import Track, Writing


@pytest.fixture
def contents(writing: Writing) -> Iterator[Contents]:
    with Contents(writing.pid) as opened:
        yield opened


def compared(tracker: Tracker, contents: Contents, address: int, count: int) -> dict[int, int]:
    """What is said of the pages of one mapping, by their number in it."""
    written = tracker.take()
    known = contents.compare(written, tracker.written_since)
    said = zip((written.pages - np.uint64(address >> 12)).tolist(), known.tolist(), strict=True)
    return {page: one for page, one in said if 0 <= page < count}


def test_silent_writes_are_told_from_others(
    writing: Writing, track: Track, contents: Contents
) -> None:
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, 10, 11, 12, 13)
    tracker = track()
    writing.tell("write", memory, 1, 10, 11, 12)
    contents.compare(tracker.take(), tracker.written_since)
    writing.tell("write", memory, 1, 10, 11)
    writing.tell("write", memory, 2, 11)
    writing.tell("write", memory, 0, 50)  # fresh memory, which held zeros
    writing.tell("write", memory, 3, 51)
    assert compared(tracker, contents, memory, 100) == {
        10: SAME, 11: CHANGED, 50: SAME, 51: CHANGED,
    }  # fmt: skip
    writing.tell("write", memory, 1, 11)  # what stood there two windows ago
    writing.tell("write", memory, 9, 12)
    writing.tell("write", memory, 1, 12)  # changed and changed back
    assert compared(tracker, contents, memory, 100) == {11: CHANGED, 12: SAME}


def test_nothing_is_said_of_a_process_that_ended_meanwhile(
    writing: Writing, track: Track, contents: Contents
) -> None:
    """Its memory reads as empty then, again and again."""
    memory = writing.tell("private", 100)
    tracker = track()
    writing.tell("write", memory, 2, *range(20, 30))
    written = tracker.take()
    writing.process.kill()
    writing.process.wait()
    assert set(contents.compare(written, tracker.written_since).tolist()) == {NOT_MEASURED}


def test_nothing_is_said_of_a_page_of_a_file_that_was_never_read(
    writing: Writing, track: Track, contents: Contents
) -> None:
    memory = writing.tell("file", 100)
    tracker = track()
    writing.tell("write", memory, 2, 9)
    assert compared(tracker, contents, memory, 100) == {9: NOT_MEASURED}
    writing.tell("write", memory, 2, 9)
    assert compared(tracker, contents, memory, 100) == {9: SAME}


def test_nothing_is_said_of_a_page_that_is_written_while_it_is_read(
    writing: Writing, contents: Contents
) -> None:
    memory = writing.tell("private", 100)
    first = memory >> 12
    pages = np.array([first + 1, first + 2], np.uint64)
    written = Written(pages, 0, np.ones(2, np.bool_))
    none = np.zeros(0, np.uint64)

    def again() -> Pages:
        return pages[1:]

    writing.tell("write", memory, 1, 1, 2)
    assert contents.compare(written, again).tolist() == [CHANGED, NOT_MEASURED]
    writing.tell("write", memory, 2, 1, 2)
    assert contents.compare(written, lambda: none).tolist() == [CHANGED, NOT_MEASURED]
    writing.tell("write", memory, 3, 1, 2)
    assert contents.compare(written, lambda: none).tolist() == [CHANGED, CHANGED]


def test_nothing_is_said_of_a_page_that_has_gone(writing: Writing, contents: Contents) -> None:
    memory = writing.tell("private", 100)
    writing.tell("write", memory, 1, *range(100))
    writing.tell("unmap", memory + 50 * 4096, 10)
    pages = np.arange(100, dtype=np.uint64) + np.uint64(memory >> 12)
    written = Written(pages, 0, np.ones(100, np.bool_))
    said = contents.compare(written, lambda: pages[:0])
    gone = set(range(50, 60))
    assert {i for i, one in enumerate(said.tolist()) if one == NOT_MEASURED} == gone
    assert {i for i, one in enumerate(said.tolist()) if one == CHANGED} == set(range(100)) - gone
