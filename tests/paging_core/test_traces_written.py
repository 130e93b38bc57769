"""Traces of written pages: what is written is read, and what cannot be is refused by its row."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paging_core.errors import BadTrace
from paging_core.traces.reader import TraceFile
from paging_core.traces.written import writer
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import PROCESS, VM, Mapping, Recording
from paging_core.traces.written.writer import WrittenPagesWriter

KEY = b"pageferry.written-pages"
MS = 1_000_000
TOP = 2**52

Plain = list[tuple[int, int, dict[int, bool | None], set[int]]]
"""Windows: start, end, written pages with whether they changed, read pages."""


def u64(pages: Any) -> Any:
    return np.array(sorted(pages), np.uint64)


def write(path: Path, windows: Plain, recording: Recording | None = None) -> None:
    with WrittenPagesWriter(path) as trace:
        for start, end, written, read in windows:
            known = [written[page] for page in sorted(written)]
            changed = np.array([-1 if one is None else int(one) for one in known], np.int8)
            trace.window(start, end, u64(written), changed, u64(read))
        trace.finish(recording or Recording(VM))


def read(path: Path) -> Plain:
    found: Plain = []
    for window in WrittenPagesFile(str(path)).windows():
        known = [None if one < 0 else bool(one) for one in window.changed.tolist()]
        written = dict(zip(window.written.tolist(), known, strict=True))
        found.append((window.start_ns, window.end_ns, written, set(window.read.tolist())))
    return found


pages = st.integers(0, 40) | st.integers(0, TOP - 1)


@st.composite
def recordings(draw: st.DrawFn) -> Plain:
    windows: Plain = []
    end = 0
    for _ in range(draw(st.integers(1, 8))):
        start = end + draw(st.sampled_from([0, 0, 7]))
        end = start + draw(st.integers(1, 100))
        written = draw(st.dictionaries(pages, st.sampled_from([True, False, None]), max_size=12))
        windows.append((start, end, written, draw(st.sets(pages, max_size=5))))
    return windows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows=recordings(), group=st.sampled_from([1, 3, 1000]))
def test_what_is_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: Plain, group: int
) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", group)
    write(tmp_path / "t.parquet", windows)
    assert read(tmp_path / "t.parquet") == [one for one in windows if one[2] or one[3]]
    opened = WrittenPagesFile(str(tmp_path / "t.parquet"))
    assert opened.description.windows == len(windows)
    assert opened.description.duration_ns == windows[-1][1]


def test_what_it_says_of_the_recording_comes_back(tmp_path: Path) -> None:
    parts = (Mapping(16, 4, "/usr/bin/x"), Mapping(20, 1 << 20, "[heap]"))
    said = Recording(PROCESS, 65536, "x --y", "by hand", 7 << 20, parts)
    with WrittenPagesWriter(tmp_path / "t.parquet") as trace:
        trace.window(0, 5, u64({17}))
        trace.finish(said, duration_ns=50)
    opened = WrittenPagesFile(str(tmp_path / "t.parquet"))
    assert opened.recording == said
    assert opened.description.duration_ns == 50


def test_any_parquet_reader_opens_it(tmp_path: Path) -> None:
    """The columns are those of the page in docs/."""
    write(tmp_path / "t.parquet", [(5, 9, {2: None, 3: True, 4: False}, {3})])
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == [
        {"window_start_ns": 5, "window_end_ns": 9, "page": page, "written": w, "changed": c}
        for page, w, c in ((2, True, None), (3, False, None), (3, True, True), (4, True, False))
    ]


def test_a_recording_in_which_nothing_was_written(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, {}, set())])
    assert read(tmp_path / "t.parquet") == []


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """1,000 windows of 4,096 pages: 100 MB as rows."""
    written = np.arange(4096, dtype=np.uint64)
    tracemalloc.start()
    with WrittenPagesWriter(tmp_path / "t.parquet") as trace:
        for i in range(1000):
            trace.window(i * MS, (i + 1) * MS, written)
        trace.finish(Recording(VM))
    assert sum(1 for _ in WrittenPagesFile(str(tmp_path / "t.parquet")).windows()) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


def refused(path: Path) -> str:
    with pytest.raises(BadTrace) as caught:
        list(WrittenPagesFile(str(path)).windows())
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def rewritten(
    tmp_path: Path,
    change: Callable[[dict[str, list[Any]], dict[str, Any]], None],
    types: dict[str, pa.DataType] | None = None,
) -> Path:
    """Three windows of ten pages in groups of seven rows, changed as another writer might."""
    write(
        tmp_path / "good.parquet",
        [(i * 10, i * 10 + 10, dict.fromkeys(range(10)), set()) for i in range(3)],
        Recording(VM, mappings=(Mapping(0, 10, "RAM"),)),
    )
    table = pq.read_table(tmp_path / "good.parquet")
    described = json.loads(pq.ParquetFile(tmp_path / "good.parquet").metadata.metadata[KEY])
    columns = table.to_pydict()
    change(columns, described)
    fields = [(name, (types or {}).get(name, table.schema.field(name).type)) for name in columns]
    schema = pa.schema(fields, metadata={KEY: json.dumps(described)})
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "bad.parquet", row_group_size=7)
    return tmp_path / "bad.parquet"


def test_a_file_of_another_writer_is_good(tmp_path: Path) -> None:
    assert len(read(rewritten(tmp_path, lambda *_: None))) == 3


def put(name: str, row: int, value: Any) -> Callable[[dict[str, list[Any]]], None]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[name][row] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("changed"), "no column 'changed' of type bool"),
        (put("page", 15, None), "row 15: its page is missing"),
        (put("page", 15, 4), "row 15: it says the same of its page"),
        (put("page", 14, 3), "row 14: it says the same of its page"),  # the first of a group
        (put("page", 15, 3), "row 15: its page is below"),
        (put("page", 29, 2**52), "row 29: its page is beyond all addresses"),
        (put("window_start_ns", 0, -1), "row 0: its window is empty, or not within"),
        (put("window_end_ns", 29, 31), "row 29: its window is empty, or not within"),
        (put("window_end_ns", 9, 0), "row 9: its window is empty"),
        (put("window_end_ns", 4, 11), "row 4: its window overlaps"),
        (put("window_start_ns", 21, 19), "row 21: its window overlaps"),
        (put("window_start_ns", 7, 1), "row 7: its window overlaps"),
        (put("written", 8, False), None),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, change: Any, says: str | None) -> None:
    path = rewritten(tmp_path, lambda columns, _: change(columns))
    if says is None:
        assert read(path)[0][3] == {8}
    else:
        assert says in refused(path)


def test_a_read_changes_nothing(tmp_path: Path) -> None:
    def change(columns: dict[str, list[Any]], _: object) -> None:
        columns["written"][12], columns["changed"][12] = False, True

    assert "row 12: it is a read that changed" in refused(rewritten(tmp_path, change))


def test_a_column_of_another_type(tmp_path: Path) -> None:
    bad = rewritten(tmp_path, lambda *_: None, {"page": pa.int64()})
    assert "no column 'page' of type uint64" in refused(bad)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(version=2), "in version 2, and this pageferry reads 1"),
        (lambda d: d.update(version=True), "in version True"),
        (lambda d: d.pop("how"), "description is damaged"),
        (lambda d: d.update(colour="red"), "description is damaged"),
        (lambda d: d.update(page_bytes="4KiB"), "description is damaged"),
        (lambda d: d.update(page_bytes=8192), "a page of 8192 bytes is none of"),
        (lambda d: d.update(recorded="sheep"), "'process' or 'vm'"),
        (lambda d: d.update(duration_ns=29), "row 20: its window is empty, or not within"),
        (lambda d: d.update(duration_ns=0), "3 windows in 0 ns cannot be"),
        (lambda d: d.update(windows=0), "0 windows in 30 ns cannot be"),
        (lambda d: d.update(duration_ns=2**54), "cannot be"),
        (lambda d: d.update(memory_bytes=-1), "size of the recorded memory cannot be"),
        (lambda d: d.update(mappings={}), "description is damaged"),
        (lambda d: d.update(mappings=[1]), "description is damaged"),
        (lambda d: d["mappings"][0].pop("name"), "description is damaged"),
        (lambda d: d["mappings"][0].update(pages=0), "mapping 0 is empty"),
        (lambda d: d["mappings"].append(d["mappings"][0]), "mapping 1 is empty, out of order"),
        (lambda d: d["mappings"][0].update(pages=2**52 + 1), "beyond all addresses"),
    ],
)
def test_a_description_that_cannot_be(tmp_path: Path, change: Any, says: str) -> None:
    assert says in refused(rewritten(tmp_path, lambda _, described: change(described)))


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(i, i + 1, dict.fromkeys(range(99)), set()) for i in range(9)])
    content, good = (tmp_path / "t.parquet").read_bytes(), read(tmp_path / "t.parquet")
    bad = tmp_path / "bad.parquet"
    for at in range(4, len(content), 23):
        broken = bytearray(content)
        broken[at] ^= 0x10
        bad.write_bytes(broken)
        try:
            assert read(bad) == good  # a byte that nobody reads
        except BadTrace as error:
            assert "\n" not in str(error)  # noqa: PT017 - either may be


def test_the_kinds_of_traces_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, 1, {1: None}, set())])
    with pytest.raises(BadTrace, match="not a trace"):
        TraceFile(str(tmp_path / "t.parquet"))
    pq.write_table(pa.table({"page": [1]}), tmp_path / "other.parquet")
    assert "no trace of written pages" in refused(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0, 9, u64({1})), r"window 1: \[0, 9\) ns is empty, begins before the last window's end"),
        ((10, 10, u64({1})), r"window 1: \[10, 10\) ns is empty"),
        ((10, 2**53 + 1, u64({1})), "window 1: .*ends after"),
        ((10, 11, np.array([5, 4], np.uint64)), r"written pages do not ascend: 4 behind 5 \(numb"),
        ((10, 11, u64({1}), None, np.array([4, 4], np.uint64)), "read pages do not ascend"),
        ((10, 11, np.array([4])), "written pages are no one-dimensional array of uint64"),
        ((10, 11, u64({1, 2}), np.array([True])), "`changed` is no array of bool or int8 as long"),
        ((10, 11, u64({1}), np.array([2], np.int8)), "other values than 1, 0 and -1"),
    ],
)
def test_windows_that_cannot_be_written(
    tmp_path: Path, arguments: tuple[Any, ...], says: str
) -> None:
    with WrittenPagesWriter(tmp_path / "t.parquet") as trace:
        trace.window(0, 10, u64({1}))
        with pytest.raises(BadTrace, match=says):
            trace.window(*arguments)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_finished(tmp_path: Path) -> None:
    with WrittenPagesWriter(tmp_path / "t.parquet") as trace:
        with pytest.raises(BadTrace, match="0 windows"):
            trace.finish(Recording(VM))
        trace.window(0, 10, u64({2**51}))
        with pytest.raises(BadTrace, match="beyond all addresses of 2097152-byte pages"):
            trace.finish(Recording(VM, page_bytes=2 << 20))
        with pytest.raises(BadTrace, match="has a window that ends at 10"):
            trace.finish(Recording(VM), duration_ns=9)
        trace.finish(Recording(VM))
    assert read(tmp_path / "t.parquet") == [(0, 10, {2**51: None}, set())]
