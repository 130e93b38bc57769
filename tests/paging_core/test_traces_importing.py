"""Importing lists of pages, dirty bitmaps, DAMON's text and drmemtrace's."""

from __future__ import annotations

import tracemalloc
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paging_core.errors import BadOption, BadTrace
from paging_core.traces.drmemtrace import import_drmemtrace
from paging_core.traces.importing import damon as damon_module
from paging_core.traces.importing import listing
from paging_core.traces.importing import windows as windows_module
from paging_core.traces.importing.bitmaps import import_bitmaps
from paging_core.traces.importing.damon import import_damon
from paging_core.traces.importing.listing import import_csv, import_parquet
from paging_core.traces.importing.windows import recording_of
from paging_core.traces.lackey import ImportOptions, import_lackey
from paging_core.traces.reader import TraceFile
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import VM, Recording
from tests.paging_core.test_traces_written import read

MS = 1_000_000
MIB = 1 << 20
HEADER = "time_ns,page,written\n"
GUEST = Recording(VM)


class Repeated(RawIOBase):
    """A text that is as long as it is asked to be, and lies nowhere."""

    def __init__(self, head: bytes, line: Any, times: int) -> None:
        super().__init__()
        self._head, self._line, self._times, self._at = head, line, times, 0

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002 - its lines are short
        if self._head:
            line, _, self._head = self._head.partition(b"\n")
            return line + b"\n"
        if self._at == self._times:
            return b""
        self._at += 1
        made: bytes = self._line(self._at - 1)
        return made


def in_bounds(run: Any, most_bytes: int) -> None:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_bytes


def plain(path: Path) -> list[tuple[int, int, set[int], set[int]]]:
    return [(start, end, set(written), seen) for start, end, written, seen in read(path)]


# Lists of touched pages.


def csv(tmp_path: Path, text: str, window_ns: int = 10 * MS, recording: Recording = GUEST) -> Any:
    out = tmp_path / "csv.parquet"
    import_csv(BytesIO(text.encode()), out, recording, window_ns, name="some.csv")
    return plain(out)


def test_a_csv_by_hand(tmp_path: Path) -> None:
    """The first time is the beginning; window 1 is empty."""
    text = HEADER + "5,7,w\n6,0x10,r\r\n10000004,7,1\n10000004, 8 , Read \n20000005,9,true\n"
    assert csv(tmp_path, text) == [
        (0, 10 * MS, {7}, {16, 8}),
        (20 * MS, 30 * MS, {9}, set()),
    ]
    described = WrittenPagesFile(str(tmp_path / "csv.parquet")).description
    assert (described.windows, described.duration_ns) == (3, 30 * MS)


touches = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 9), st.booleans()), min_size=1, max_size=60
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=touches, window_ns=st.integers(1, 100))
def test_a_list_is_its_touches_window_by_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[Any], window_ns: int
) -> None:
    monkeypatch.setattr(windows_module, "_MOST_WAITING", 5)
    monkeypatch.setattr(listing, "_CHUNK_ROWS", 7)
    times = np.cumsum([step for step, _, _ in steps]).tolist()
    expected: dict[int, tuple[set[int], set[int]]] = {}
    for time, (_, page, written) in zip(times, steps, strict=True):
        window = expected.setdefault((time - times[0]) // window_ns, (set(), set()))
        window[0 if written else 1].add(page)
    as_windows = [
        (number * window_ns, (number + 1) * window_ns, *sets)
        for number, sets in sorted(expected.items())
    ]
    lines = [f"{t},{page},{'rw'[w]}\n" for t, (_, page, w) in zip(times, steps, strict=True)]
    assert csv(tmp_path, HEADER + "".join(lines), window_ns) == as_windows
    table = {
        "time_ns": pa.array(times, pa.int64()),
        "page": pa.array([page for _, page, _ in steps], pa.uint32()),
        "written": [written for *_, written in steps],
    }
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    import_parquet(str(tmp_path / "list.parquet"), tmp_path / "o.parquet", GUEST, window_ns)
    assert plain(tmp_path / "o.parquet") == as_windows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no touched page"),
        (HEADER, "holds no touched page"),
        ("time,page\n1,2\n", "line 1 is not the header time_ns,page,written ('time,page')"),
        (HEADER + "1,2,w\n1,2\n", "line 3 has not the 3 values of the header ('1,2')"),
        (HEADER + "1,2,w\n\n", "line 3 has not the 3 values"),
        (HEADER + "1.5,2,w\n", "line 2 has no time in whole nanoseconds"),
        (HEADER + "-1,2,w\n", "line 2 has no time"),
        (HEADER + "1_0,2,w\n", "line 2 has no time"),
        (HEADER + f"{2**63},2,w\n", "line 2 has no time"),
        (HEADER + f"1,{2**52},w\n", "line 2 has no page number below 0x10000000000000"),
        (HEADER + "1,0xg,w\n", "line 2 has no page number"),
        (HEADER + "1,2,x\n", "line 2 says neither written (1) nor read (0) ('1,2,x')"),
        (HEADER + "2,2,w\n3,2,w\n1,2,w\n", "line 4 is earlier than the one before it"),
        (HEADER + f"2,2,w\n{2**53},2,w\n", "line 3 is 52 days or more behind the first"),
        (HEADER + "1" * 5000, "line 2 is longer than 4096 bytes"),
    ],
)
def test_a_csv_that_cannot_be(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadTrace) as caught:
        csv(tmp_path, text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("some.csv")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"time_ns": [1], "page": [2]}, "no column 'written' of bool"),
        ({"time_ns": [1.0], "page": [2], "written": [True]}, "no column 'time_ns' of an integer"),
        ({"time_ns": [1, 2], "page": [2, None], "written": [True] * 2}, "row 1: its page is miss"),
        ({"time_ns": [1, 2], "page": [2, -1], "written": [True] * 2}, "row 1: its time or its p"),
        ({"time_ns": [2, 1], "page": [2, 2], "written": [True] * 2}, "row 1 is earlier than"),
        ({"time_ns": [], "page": [], "written": []}, "no column"),
    ],
)
def test_a_parquet_list_that_cannot_be(tmp_path: Path, columns: Any, says: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    with pytest.raises(BadTrace) as caught:
        import_parquet(str(tmp_path / "list.parquet"), tmp_path / "o.parquet", GUEST, MS)
    assert says in str(caught.value)
    assert not (tmp_path / "o.parquet").exists()


def test_a_parquet_list_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_bytes(b"PAR1 and then nothing of that kind PAR1")
    with pytest.raises(BadTrace, match=r"list\.parquet: it is damaged"):
        import_parquet(str(tmp_path / "list.parquet"), tmp_path / "o.parquet", GUEST, MS)


def test_a_csv_of_any_length_takes_the_same_memory(tmp_path: Path) -> None:
    """300,000 touches of 64 pages in one window: 5 MB of text, 8 MB as numbers."""
    text = Repeated(HEADER.encode(), lambda i: b"%d,%d,w\n" % (i, i * 7 % 64), 300_000)
    out = tmp_path / "o.parquet"
    in_bounds(lambda: import_csv(cast("BinaryIO", text), out, GUEST, 1000 * MS), 40 * MIB)
    assert plain(out) == [(0, 1000 * MS, set(range(64)), set())]


def test_what_no_recording_can_be() -> None:
    with pytest.raises(BadOption, match="4KiB, 64KiB or 2MiB"):
        recording_of("vm", 8192, "", "")
    with pytest.raises(BadOption, match="process or vm, not sheep"):
        recording_of("sheep", 4096, "", "")


# Dirty bitmaps.


def bitmap(path: Path, pages: set[int], size_bytes: int = 8) -> Path:
    """Byte by byte, bit by bit."""
    content = bytearray(size_bytes)
    for page in pages:
        content[page // 8] |= 1 << (page % 8)
    path.write_bytes(content)
    return path


@given(rounds=st.lists(st.sets(st.integers(0, 63)), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_bit_is_a_page(tmp_path: Path, rounds: list[set[int]]) -> None:
    files = [bitmap(tmp_path / f"{i}.bin", pages) for i, pages in enumerate(rounds)]
    out = tmp_path / "o.parquet"
    made = import_bitmaps(files, out, Recording(VM, 65536), 200 * MS)
    assert (made.windows, made.duration_ns) == (len(rounds), len(rounds) * 200 * MS)
    assert made.recording.memory_bytes == 64 * 65536
    assert plain(out) == [
        (i * 200 * MS, (i + 1) * 200 * MS, pages, set()) for i, pages in enumerate(rounds) if pages
    ]


def test_bitmaps_as_words_of_64_bits_are_the_same(tmp_path: Path) -> None:
    """KVM fills unsigned longs: page 70 is bit 6 of word 1."""
    np.array([0, 1 << 6], "<u8").tofile(tmp_path / "kvm.bin")
    import_bitmaps([tmp_path / "kvm.bin"], tmp_path / "o.parquet", GUEST, MS)
    assert plain(tmp_path / "o.parquet") == [(0, MS, {70}, set())]


def test_bitmaps_that_cannot_be(tmp_path: Path) -> None:
    good, long = bitmap(tmp_path / "a", {1}), bitmap(tmp_path / "b", {1}, 16)
    high, empty = bitmap(tmp_path / "c", {1, 40, 41}), bitmap(tmp_path / "d", set(), 0)
    small = Recording(VM, memory_bytes=40 * 4096)
    for files, recording, window_ns, says in (
        ([good, long], GUEST, MS, "b has 16 bytes, and the first bitmap has 8"),
        ([good, high], small, MS, "c: offset 5 has a bit set for page 40, beyond the 40 pages"),
        ([good, empty], GUEST, MS, "d is no bitmap: it is no regular file, empty"),
        ([tmp_path], GUEST, MS, "is no bitmap"),
        ([tmp_path / "no"], GUEST, MS, "No such file"),
        ([good, good], GUEST, 2**53, "2 rounds of"),
    ):
        with pytest.raises(BadTrace) as caught:
            import_bitmaps(files, tmp_path / "o.parquet", recording, window_ns)
        assert says in str(caught.value)
        assert not (tmp_path / "o.parquet").exists()


# DAMON.

DAMON = """\
base_time_absolute: 8 m 59.809 s
data source: unknown

monitoring_start:                0 ns
monitoring_end:            104.599 ms
monitoring_duration:       104.599 ms
target_id: 18446623438842320000
nr_regions: 3
# start_addr     end_addr        length  nr_accesses   age
000000003000-000000005000 (   8.000 KiB)           2    -1
000000005000-000000105000 (   1.000 MiB)           0    -1
000000105000-000000106800 (   6.000 KiB)           1     7

monitoring_start:          104.599 ms
monitoring_end:               1.052 s
monitoring_duration:      947.401 ms
target_id: 18446623438842320000
nr_regions: 1
# start_addr     end_addr        length  nr_accesses   age
000000003000-000000004000 (   4.000 KiB)           9    -1

"""


def damon(tmp_path: Path, text: str, **given: Any) -> Any:
    asked = {"written": True, "name": "d.txt", **given}
    recording = asked.pop("recording", GUEST)
    import_damon(BytesIO(text.encode()), tmp_path / "d.parquet", recording, **asked)
    return plain(tmp_path / "d.parquet")


def test_damon_by_hand(tmp_path: Path) -> None:
    """A snapshot is a window; regions with accesses are touched, also in their last half page."""
    ends = 104_599_000, 1_052_000_000
    written = {3, 4, 0x105, 0x106}
    assert damon(tmp_path, DAMON) == [
        (0, ends[0], written, set()),
        (*ends, {3}, set()),
    ]
    assert damon(tmp_path, DAMON, written=False)[0] == (0, ends[0], set(), written)
    large = Recording(VM, 65536)
    assert damon(tmp_path, DAMON, recording=large)[0] == (0, ends[0], {0, 16}, set())


def test_damon_in_raw_numbers_and_hours(tmp_path: Path) -> None:
    text = DAMON.replace("104.599 ms", "104599123").replace("1.052 s", "1 h 2 m 3.500 s")
    windows = damon(tmp_path, text)
    assert [window[:2] for window in windows] == [
        (0, 104_599_123),
        (104_599_123, 3_723_500_000_000),
    ]


def test_one_of_several_targets(tmp_path: Path) -> None:
    other = DAMON.replace("target_id: 18446623438842320000", "target_id: 7")
    other = other.replace("000000003000-000000004000", "000000009000-00000000a000")
    with pytest.raises(BadTrace, match=r"line 28 is of a second target; choose one: .* --target"):
        damon(tmp_path, DAMON + other)
    for target, last in (("18446623438842320000", 3), ("7", 9)):
        windows = damon(tmp_path, DAMON + other, target=target)
        assert [sorted(window[2]) for window in windows] == [[3, 4, 0x105, 0x106], [last]]
    with pytest.raises(BadTrace, match="holds no snapshot of that target"):
        damon(tmp_path, DAMON, target="1")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("data source: unknown", "hello", "line 2 is none of damo's raw form ('hello')"),
        ("000000003000-000000005000", "000000005000-000000003000", "line 10 is a region that ends"),
        ("monitoring_end:               1.052 s\n", "", "line 20 follows a snapshot without a t"),
        ("1.052 s", "0.052 s", "line 21 follows a snapshot without a time, or with one before"),
        ("           2    -1", "          -2    -1", "line 10 is none of damo's"),
        ("000000003000-000000005000", "000000003000-0fffffffffff", "line 10 brings the touched"),
        (DAMON[: DAMON.index("# start")], "", "line 2 is a region before any monitoring_start"),
        (DAMON, "", "d.txt holds no snapshot"),
    ],
)
def test_damons_text_that_cannot_be(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadTrace) as caught:
        damon(tmp_path, DAMON.replace(old, new, 1))
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_damons_text_of_any_length_takes_the_same_memory(tmp_path: Path) -> None:
    def line(i: int) -> bytes:
        at, field = divmod(i, 4)
        return (
            b"monitoring_start: %d\n" % at,
            b"monitoring_end: %d\n" % (at + 1),
            b"target_id: 1\n",
            b"000000003000-000000005000 (8192) 2 0\n",
        )[field]

    text = Repeated(b"base_time_absolute: 0\n", line, 80_000)
    out = tmp_path / "d.parquet"
    in_bounds(lambda: import_damon(cast("BinaryIO", text), out, GUEST, written=True), 60 * MIB)
    assert WrittenPagesFile(str(out)).description.windows == 20_000
    assert damon_module.MOST_WINDOW_PAGES == 1 << 24


# drmemtrace.

VIEW = """\
Output format:
<--record#-> <--instr#->: <---tid---> <record details>
------------------------------------------------------------
           1           0:     2765542 <marker: version 5>
           5           0:     2765542 <marker: page size 4096>
       47445       37770:     2765543 ifetch       5 byte(s) @ 0x0000000000404a7e 48 8b 5c mov x
       47446       37770:     2765543 read         8 byte(s) @ 0x00007fdf64e2adc8 by PC 0x404a7e
       47447       37771:     2765543 ifetch      10 byte(s) @ 0x0000000000404a83 48 b8 00 11 22 33
       47447       37771:     2765543                                             44 55 66 77
------------------------------------------------------------
       47452       37774:     2765542 <marker: timestamp 13334804716609227>
       47455       37775:     2765542 write        8 byte(s) @ 0x00007ffd90c13ffc by PC 0x40257d
       47456       37775:     2765542 pref-r-L1    1 byte(s) @ 0x00007ffd90c13950 by PC 0x40257d
       47457       37776:     2765542 <thread 2765542 exited>
View tool results:
          41226 : total instructions
"""
AS_LACKEY = b"I  404a7e,5\n L 7fdf64e2adc8,8\nI  404a83,10\n S 7ffd90c13ffc,8\n"


def test_drmemtrace_is_what_lackey_would_have_said(tmp_path: Path) -> None:
    options = ImportOptions("ls", window_instructions=1)
    made = import_drmemtrace(BytesIO(VIEW.encode()), tmp_path / "v.parquet", options)
    import_lackey(BytesIO(AS_LACKEY), tmp_path / "l.parquet", options)
    assert pq.read_table(tmp_path / "v.parquet").equals(pq.read_table(tmp_path / "l.parquet"))
    assert (made.tool, made.command, made.instructions, made.writes) == ("drmemtrace", "ls", 2, 1)
    assert TraceFile(str(tmp_path / "v.parquet")).info == made
    newer = VIEW.replace(" 2765542 ", " W0.T2765542 ").replace(" 2765543 ", " W0.T2765543 ")
    import_drmemtrace(BytesIO(newer.encode()), tmp_path / "w.parquet", options)
    assert (tmp_path / "w.parquet").read_bytes() == (tmp_path / "v.parquet").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("View tool results:", "hello", "line 15 is none of drmemtrace's view tool ('hello')"),
        ("0x00007ffd90c13ffc", "0xffffffff80000000", "line 12 has an address outside user space"),
        ("write        8", "write        0", "line 12 has an access of 0 bytes"),
        (VIEW, "", "holds no memory accesses; record with: drrun -t drmemtrace"),
        ("ifetch", "iflush", "has 0 instructions"),
    ],
)
def test_a_view_that_cannot_be(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadTrace) as caught:
        import_drmemtrace(
            BytesIO(VIEW.replace(old, new).encode()), tmp_path / "v.parquet", name="v.txt"
        )
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_two_workloads_are_not_one(tmp_path: Path) -> None:
    text = VIEW.replace(" 2765542 ", " W0.T2765542 ").replace(" 2765543 ", " W1.T2765543 ")
    with pytest.raises(BadTrace, match="line 12 is of a second workload"):
        import_drmemtrace(BytesIO(text.encode()), tmp_path / "v.parquet")


def test_a_view_of_any_length_takes_the_same_memory(tmp_path: Path) -> None:
    def line(i: int) -> bytes:
        kind = b"ifetch" if i % 2 else b"write "
        return b"%12d%12d:     2765543 %s       8 byte(s) @ 0x%016x\n" % (i, i, kind, i % 99 * 4096)

    text = Repeated(b"Output format:\n", line, 60_000)
    out = tmp_path / "v.parquet"
    in_bounds(lambda: import_drmemtrace(cast("BinaryIO", text), out), 60 * MIB)
    assert TraceFile(str(out)).info.writes == 30_000
