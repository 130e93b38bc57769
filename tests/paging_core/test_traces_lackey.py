"""Importing lackey's text: the rows, the description, and everything that is not lackey's."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from io import BytesIO, RawIOBase, StringIO
from pathlib import Path
from threading import Thread
from typing import BinaryIO, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pageferry.cli.trace_show import facts, regions
from paging_core.errors import BadOption, BadTrace
from paging_core.traces import lackey
from paging_core.traces.lackey import ImportOptions, import_lackey
from paging_core.traces.profile import profile
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import Replay
from paging_core.workloads.ops import OP_DTYPE
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
    pace=st.sampled_from([None, 10**6]),
    upper=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n", " \n", "\t\n", " \t \r\n"]),
)
def test_the_rows_are_the_references(
    tmp_path_factory: pytest.TempPathFactory,
    trace: list[tuple[str, tuple[Access, ...]]],
    window: int,
    sizes: list[int],
    pace: int | None,
    upper: bool,
    ending: str,
) -> None:
    out = tmp_path_factory.mktemp("traces") / "some.parquet"
    flat = [Access("I", 0x1000, 1), *(access for _, part in trace for access in part)]
    if pace is None:
        flat = [one for access in flat for one in (Access("I", 0x1000, 1), access)]
    parts = [flat[:7], flat[7:]]
    text = "".join(
        said + "".join(_written(a.line(), ending, upper=upper) for a in part)
        for (said, _), part in zip([*trace, ("", ())], parts, strict=False)
    )
    stream = cast("BinaryIO", Pieces(text.encode(), sizes))
    info = import_lackey(stream, out, ImportOptions(window_instructions=window, pace=pace))
    assert rows_in(out) == rows_of(flat, window, paced=pace is not None)
    timed = flat if pace else [a for a in flat if a.kind == "I"]
    assert info.instructions == len(timed)
    assert info.reads == sum(a.kind in "IL" for a in flat)
    assert info.writes == sum(a.kind in "SM" for a in flat)


def _written(line: str, ending: str, *, upper: bool) -> str:
    """As some editor or other system leaves it; the letters of lackey's are capitals anyway."""
    return (line.upper() if upper else line).replace("\n", ending)


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
    flat = [Access("I", 4096 * (1 + page), 8) for page in pages]
    rows = import_text("".join(a.line() for a in flat), tmp_path / "wide.parquet", window=10**6)
    assert len(rows) == 6000  # never two in a window: none is seen again within 2047 rows
    assert [row.page for row in rows] == [1 + page for page in pages]
    most = MOST_ROWS_IN_A_WINDOW
    again = [Access("I", 4096 * (1 + page), 8) for page in [*range(most), 0, 1]]
    rows = import_text("".join(a.line() for a in again), tmp_path / "edge.parquet", window=10**6)
    assert rows == [
        *rows_of(again[:-2], 10**6),
        Row(most + 1, 1, 1, write=False),
        Row(most + 2, 2, 1, write=False),
    ]


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
        (GOOD + "SB hello\n", "line 2 is none of lackey's ('SB hello')"),
        (GOOD + "SB 00001000,3\n", "line 2 "),
        (GOOD + " S 0000100g,3\n", "line 2 "),
        (GOOD + " S ,3\n", "line 2 "),
        (GOOD + " S 00001000\n", "line 2 "),
        (GOOD + " S 00001000,\n", "line 2 "),
        (GOOD + " S 00001000,0\n", "line 2 has an access of 0 bytes"),
        (GOOD + " S 00001000,4097\n", "line 2 has an access of 4097 bytes"),
        (GOOD + " S 00001000,8 8\n", "line 2 is none of lackey's (' S 00001000,8 8')"),
        (GOOD + " S  00001000,8\n", "line 2 is none of lackey's (' S  00001000,8')"),
        (GOOD + "\tS 00001000,8\n", "line 2 is none of lackey's ('\\tS 00001000,8')"),
        (GOOD + "a   b\x1b[2J\x9b\n", "line 2 is none of lackey's ('a   b\\x1b[2J\\x9b')"),
        (GOOD + "x" * 70 + "\n", "('" + "x" * 60 + "'…)"),
        (GOOD + " S 800000000000,8\n", "line 2 has an address outside user space: 0x800000000000"),
        (GOOD + "I  FFFFFFFFFF600000,9\r\n", "outside user space: 0xffffffffff600000"),
        (GOOD + " L 7fffffffffff,2\n", "outside user space: 0x7fffffffffff and 2 bytes"),
        (GOOD + " S 100000000000000000000001,8\n", "line 2 has an address"),  # 64 bits would wrap
        (GOOD + " S " + "f" * 9000 + ",8\n", "line 2 has an address"),
        (GOOD + " S 00001000,18446744073709551620\n", "line 2 "),
        (GOOD + "I\n", "line 2 "),
        (GOOD + "I \n", "line 2 "),
        (GOOD + " S\n", "line 2 "),
        (GOOD + "I  00001003,", "line 2 is cut off"),
        (GOOD + " S 00001000,8", "line 2 is cut off"),
        (GOOD + "==7== and then", "line 2 is cut off"),
        (GOOD + "x" * 70_000, "line 2 is longer than any of lackey's"),
        ("\x7fELF\x02\x01\n\x00\x00", "line 1 is none of lackey's"),
        ("\0" * 99, "line 1 is cut off"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "none of lackey's: it begins with a byte-order mark"),
        (GOOD.encode("utf-16"), "text is text in UTF-16; import it through a pipe: iconv -f"),
        (GOOD.encode("utf-16-le"), "text is text in UTF-16LE; import it through a pipe: iconv"),
        (GOOD.encode("utf-16-be"), "text is text in UTF-16BE; import it through a pipe: iconv"),
        (GOOD.encode("utf-32"), "text is text in UTF-32; import it through a pipe: iconv"),
        (
            gzip.compress(GOOD.encode(), mtime=0),
            "text is compressed (gzip); import it through a pipe:",
        ),
        (bz2.compress(GOOD.encode()), "text is compressed (bzip2)"),
        (lzma.compress(GOOD.encode()), "text is compressed (xz)"),
        (lzma.compress(GOOD.encode(), lzma.FORMAT_ALONE), "text is compressed (lzma)"),
        (zstandard.compress(GOOD.encode()), "text is compressed (zstd)"),
        (gzip.compress(b"", mtime=0)[:3], "text is compressed (gzip)"),
        (" S 00001000,8\n" * 60_000, "text has 0 instructions (lines of I) for 60,000 loads and"),
        (GOOD + " S 00001000,8\n" * 17, "text has 1 instructions (lines of I) for 17 loads"),
    ],
)
def test_what_is_not_lackeys_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    with pytest.raises(BadTrace) as caught:
        import_text(text if isinstance(text, bytes) else text.encode("latin-1"),
                    tmp_path / "bad.parquet")  # fmt: skip
    assert says in str(caught.value)
    assert str(caught.value).startswith("text")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "said",
    [
        "SB 0401ab70\n",
        "SB 0401AB70 \r\n",
        "\r\n",
        " \t\n",
        "==00:00:00:00.012 7== Command: ls\n",
        "==00:00:00:00.012 7== \r\n",
        "--12-- warn\n",
        "--00:00:00:00.400 12-- REDIR: 0x4 (strlen) redirected\n",
    ],
)
def test_what_stands_between_accesses_is_passed_over(tmp_path: Path, said: str) -> None:
    rows = import_text(said + GOOD + said + GOOD + said, tmp_path / "some.parquet")
    assert rows == [Row(1, 1, 2, write=False)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("speaker", ["==7==", "==00:00:00:00.012 7=="])
def test_valgrind_names_the_command(tmp_path: Path, speaker: str, end: str) -> None:
    text = f"{speaker} Lackey{end}{speaker} Command: ls -l  /usr{end}{GOOD}"
    assert import_lackey(BytesIO(text.encode()), tmp_path / "x.parquet").command == "ls -l  /usr"


class TestPace:
    """Texts without instructions, and how fast they go."""

    STORES = " S 00001000,8\n L 00002000,8\n" * 500

    def test_it_is_the_time_between_accesses(self, tmp_path: Path) -> None:
        out = tmp_path / "paced.parquet"
        options = ImportOptions(pace=10_000_000, window_instructions=100)
        info = import_lackey(BytesIO(self.STORES.encode()), out, options)
        assert (info.instructions, info.reads, info.writes) == (1000, 500, 500)
        assert (info.counts, info.lap_ps) == ("accesses", 1000 * 100_000)
        first, second, *_ = rows_in(out)
        assert (first, second) == (Row(1, 1, 50, write=True), Row(2, 2, 49, write=False))
        assert TraceFile(str(out)).info == info

    def test_the_file_says_so_in_a_version_of_its_own(self, tmp_path: Path) -> None:
        out = tmp_path / "paced.parquet"
        import_lackey(BytesIO(self.STORES.encode()), out, ImportOptions(pace=1_000_000))
        described = json.loads(pq.ParquetFile(out).metadata.metadata[b"pageferry.trace"])
        assert (described["version"], described["counts"]) == (2, "accesses")
        assert described["window_instructions"] == 4294  # what 4.29 ms hold

    def test_a_lap_takes_time(self, tmp_path: Path) -> None:
        with pytest.raises(BadTrace, match="takes 2 ps at 1,000,000,000,000 accesses a second"):
            import_lackey(
                BytesIO(self.STORES[:28].encode()),
                tmp_path / "x.parquet",
                ImportOptions(pace=10**12),
            )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"pace": 999}, "a pace of 999 accesses per second is not from 1k to 1000G"),
            ({"pace": 10**12 + 1}, "is not from 1k to 1000G"),
            ({"pace": 10**6, "instructions_per_second": 10**6}, "drop one"),
            ({"pace": 1000, "window_instructions": 5}, "a window of 5 accesses is not from 1 to 4"),
        ],
    )
    def test_one_that_cannot_be(self, options: dict[str, int], says: str) -> None:
        with pytest.raises(BadOption, match=says):
            ImportOptions(**options)  # type: ignore[arg-type]


lines = st.builds(
    lambda kind, address, size, end: f"{kind} {address:x},{size}{end}",
    st.sampled_from(["I ", " L", " S", " M"]),
    st.one_of(
        st.sampled_from([0, 1, 4095, 4096, 2**47 - 4097, 2**47 - 4096, 2**47 - 8, 2**47 - 1]),
        st.integers(0, 2**48),
    ),
    st.sampled_from([1, 8, 512, 832, 4095, 4096, 4097, 10**9]),
    st.sampled_from(["\n", "\r\n", " \n"]),
)


@given(
    text=st.lists(lines, max_size=12).map("".join),
    window=st.sampled_from([None, 1, 3]),
    speed=st.sampled_from([None, 10**6, 10**9, 10**12]),
    pace=st.sampled_from([None, None, 1000, 10**12]),
)
def test_what_import_writes_show_and_a_guest_read(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    window: int | None,
    speed: int | None,
    pace: int | None,
) -> None:
    out = tmp_path_factory.mktemp("traces") / "some.parquet"
    try:
        options = ImportOptions(None, window, None if pace else speed, pace)
        import_lackey(BytesIO(text.encode()), out, options)
    except (BadTrace, BadOption):
        assert list(out.parent.iterdir()) == []
        return
    opened = TraceFile(str(out))
    found = profile(opened)
    said = Console(file=StringIO(), width=200)
    said.print(facts(opened, found), regions(found))
    replay = Replay(opened, 0)
    ops = np.zeros(3 * opened.n_rows, OP_DTYPE)
    replay.fill(0, ops)
    assert sorted(set(ops["address"] >> 12)) == found.pages.tolist()
    assert opened.info.lap_ps >= 1000


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
