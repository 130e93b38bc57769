"""Importing lackey's text: the rows, the description, and everything that is not lackey's."""

from __future__ import annotations

import json
import os
from io import BytesIO, RawIOBase
from pathlib import Path
from threading import Thread
from typing import BinaryIO, cast

import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from paging_core.errors import BadOption, BadTrace
from paging_core.traces import lackey
from paging_core.traces.lackey import ImportOptions, import_lackey
from tests.paging_core.lackey_reference import (
    MOST_ROWS_IN_A_WINDOW,
    Access,
    Row,
    import_text,
    rows_in,
    rows_of,
)

HAND_MADE = """\
==7== Lackey, an example Valgrind tool
==7== Command: ls -l  /usr/bin
==7==
I  00001000,3
 L 1ffeffe008,8
I  00001003,5
 S 00002ffc,8
 S 00002000,4
I  00001008,2
 M 00002010,4
I  0000100a,2
==7== Counted 0 calls to main()
"""
HAND_WORKED = [
    # Instructions 1 to 2 end the first window of 3: it is [0, 3).
    Row(1, 0x1, 2, write=False),
    Row(1, 0x1FFEFFE, 1, write=False),
    Row(2, 0x2, 2, write=True),  # 2ffc and 2000
    Row(2, 0x3, 1, write=True),  # 2ffc … 3003 reaches into it
    Row(3, 0x1, 2, write=False),
    Row(3, 0x2, 1, write=True),  # a modification writes
]

accesses = st.lists(
    st.builds(
        Access,
        st.sampled_from("IIILSM"),
        # Few pages, so that they come again; near their ends, so that some are crossed.
        st.builds(
            lambda page, offset: page * 4096 + offset,
            st.sampled_from([1, 2, 3, 2**20, 2**35 - 2]),
            st.sampled_from([0, 8, 4088, 4092, 4095]),
        ),
        st.sampled_from([1, 4, 8, 32, 4096]),
    ),
    min_size=1,
    max_size=60,
)
noise = st.sampled_from(["", "==12== Counted 1 call\n", "--12-- warn\n", "**12** hi\n", "\n"])


class Pieces(RawIOBase):
    """A pipe that hands out a text in pieces of given sizes, again and again."""

    def __init__(self, text: bytes, sizes: list[int]) -> None:
        self._text, self._sizes, self._turn = text, sizes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(self._sizes[self._turn % len(self._sizes)], len(buffer))
        self._turn += 1
        piece, self._text = self._text[:size], self._text[size:]
        buffer[: len(piece)] = piece
        return len(piece)


def test_a_trace_worked_by_hand(tmp_path: Path) -> None:
    out = tmp_path / "hand.parquet"
    assert import_text(HAND_MADE, out, window=3) == HAND_WORKED
    described = json.loads(pq.ParquetFile(out).metadata.metadata[b"pageferry.trace"])
    values = [0x1, 0x1FFEFFE, 0x2, 0x3, 0x1, 0x2]
    of_pages = xxhash.xxh3_64_hexdigest(b"".join(v.to_bytes(8, "little") for v in values))
    assert described.pop("columns_xxh3")["page"] == of_pages
    assert described == {
        "version": 1,
        "tool": "lackey",
        "command": "ls -l  /usr/bin",
        "instructions": 4,
        "reads": 5,
        "writes": 3,
        "window_instructions": 3,
        "instructions_per_second": 10**9,
    }


@given(
    trace=st.lists(st.tuples(noise, accesses.map(tuple)), min_size=1, max_size=3),
    window=st.sampled_from([1, 2, 5, 1000]),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_the_rows_are_the_references(
    tmp_path_factory: pytest.TempPathFactory,
    trace: list[tuple[str, tuple[Access, ...]]],
    window: int,
    sizes: list[int],
) -> None:
    out = tmp_path_factory.mktemp("traces") / "some.parquet"
    text = "".join(said + "".join(a.line() for a in part) for said, part in trace)
    stream = cast("BinaryIO", Pieces(text.encode(), sizes))
    info = import_lackey(stream, out, ImportOptions(window_instructions=window))
    flat = [access for _, part in trace for access in part]
    assert rows_in(out) == rows_of(flat, window)
    assert info.instructions == sum(a.kind == "I" for a in flat)
    assert info.reads == sum(a.kind in "IL" for a in flat)
    assert info.writes == sum(a.kind in "SM" for a in flat)


def test_many_rows_are_several_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lackey, "GROUP_ROWS", 100)
    flat = [Access("ILSM"[i % 4], 4096 * (1 + i * i % 37), 4) for i in range(20_000)]
    out = tmp_path / "long.parquet"
    rows = import_text("".join(a.line() for a in flat), out, window=7)
    assert rows == rows_of(flat, 7)
    groups = pq.ParquetFile(out).metadata
    assert groups.num_row_groups > 3
    assert max(groups.row_group(i).num_rows for i in range(groups.num_row_groups)) <= 100 + 2048


def test_a_window_with_too_many_pages_ends_early(tmp_path: Path) -> None:
    pages = [*range(3000), *range(3000)]
    flat = [Access("S", 4096 * (1 + page), 8) for page in pages]
    rows = import_text("".join(a.line() for a in flat), tmp_path / "wide.parquet", window=10**6)
    assert len(rows) == 6000  # never two in a window: none is seen again within 2047 rows
    assert [row.page for row in rows] == [1 + page for page in pages]
    again = [Access("S", 4096 * (1 + page), 8) for page in [*range(MOST_ROWS_IN_A_WINDOW), 0, 1]]
    rows = import_text("".join(a.line() for a in again), tmp_path / "edge.parquet", window=10**6)
    assert rows == [*rows_of(again[:-2], 10**6), Row(0, 1, 1, write=True), Row(0, 2, 1, write=True)]


def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    told: list[int] = []

    def write() -> None:
        with os.fdopen(writing, "wb", 0) as pipe:
            for line in HAND_MADE.encode().splitlines(keepends=True):
                pipe.write(line)

    with os.fdopen(reading, "rb") as stream:
        writer = Thread(target=write)
        writer.start()
        options = ImportOptions(window_instructions=3)
        import_lackey(stream, tmp_path / "hand.parquet", options, progress=told.append)
        writer.join()
    assert rows_in(tmp_path / "hand.parquet") == HAND_WORKED
    assert sum(told) == len(HAND_MADE)


def test_the_command_can_be_told(tmp_path: Path) -> None:
    options = ImportOptions(command="a server under load")
    info = import_lackey(BytesIO(HAND_MADE.encode()), tmp_path / "some.parquet", options)
    assert info.command == "a server under load"


GOOD = "I  00001000,3\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "text holds no memory accesses; record with: valgrind --tool=lackey --trace-mem=yes"),
        ("==7== Lackey\n==7== Counted 0 calls\n", "holds no memory accesses"),
        ("total 12\n", "line 1 is none of lackey's ('total 12')"),
        (GOOD * 2 + "hello\n" + GOOD, "line 3 is none of lackey's ('hello')"),
        ("\n" + GOOD + "I 00001000,3\n", "line 3 "),
        (GOOD + " X 00001000,3\n", "line 2 "),
        (GOOD + "SB 00001000\n", "line 2 "),
        (GOOD + " S 0000100g,3\n", "line 2 "),
        (GOOD + " S ,3\n", "line 2 "),
        (GOOD + " S 00001000\n", "line 2 "),
        (GOOD + " S 00001000,\n", "line 2 "),
        (GOOD + " S 00001000,0\n", "line 2 "),
        (GOOD + " S 00001000,4097\n", "line 2 "),
        (GOOD + " S 00001000,8 \n", "line 2 "),
        (GOOD + " S 800000000000,8\n", "line 2 "),  # not a user address
        (GOOD + " S 100000000000000000000001,8\n", "line 2 "),  # 64 bits would wrap
        (GOOD + " S 00001000,18446744073709551620\n", "line 2 "),
        (GOOD + "I\n", "line 2 "),
        (GOOD + " \n", "line 2 "),
        (GOOD + "I  00001003,", "line 2 is cut off"),
        (GOOD + " S 00001000,8", "line 2 is cut off"),
        (GOOD + "==7== and then", "line 2 is cut off"),
        (GOOD + "x" * 70_000, "line 2 is longer than any of lackey's"),
        ("\x7fELF\x02\x01\n\x00\x00", "line 1 is none of lackey's"),
    ],
)
def test_what_is_not_lackeys_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadTrace) as caught:
        import_text(text, tmp_path / "bad.parquet")
    assert says in str(caught.value)
    assert str(caught.value).startswith("text")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_import_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "some.parquet"
    import_text(GOOD, out)
    before = out.read_bytes()
    with pytest.raises(BadTrace):
        import_text(GOOD * 3 + "nonsense\n", out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_an_interrupted_import_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_lackey(BytesIO(GOOD.encode()), tmp_path / "some.parquet", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["no/such/folder/some.parquet", "."])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    with pytest.raises(BadTrace, match=r"cannot write .*; name a"):
        import_text(GOOD, tmp_path / place)


@pytest.mark.parametrize(
    ("window", "speed", "says"),
    [
        (0, 10**9, "window of 0"),
        (4_294_968, 10**9, "not from 1 to 4294967"),  # 4.29 ms are what an operation can wait
        (100_000, 10**6, "not from 1 to 4294"),
        (1, 999_999, "not from 1M to 1000G"),
        (1, 10**12 + 1, "not from 1M to 1000G"),
    ],
)
def test_options_that_cannot_be(window: int, speed: int, says: str) -> None:
    with pytest.raises(BadOption, match=says):
        ImportOptions(window_instructions=window, instructions_per_second=speed)
