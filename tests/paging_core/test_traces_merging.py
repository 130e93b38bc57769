"""Reads merged into written pages, against the same said touch by touch in plain Python."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paging_core.errors import BadTrace
from paging_core.traces.merging import LEAST_SHARE, Merged, merge_reads
from paging_core.traces.opening import make_replay
from paging_core.traces.written import writer
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import PROCESS, VM, Recording
from paging_core.workloads.ops import READ
from tests.paging_core.lackey_reference import Access, Row, import_text
from tests.paging_core.test_traces_written import Plain, read, recordings, write
from tests.paging_core.test_traces_written_replay import lap_of, low_pages, touched

MS = 2_000_000
IN_PROCESS = Recording(PROCESS, how="by hand")


def merge_files(tmp_path: Path, least_share: float = 0, *, stretched: bool = False) -> Merged:
    return merge_reads(
        str(tmp_path / "w.parquet"), str(tmp_path / "r.parquet"), tmp_path / "m.parquet",
        stretched=stretched, least_share=least_share,
    )  # fmt: skip


def merged(tmp_path: Path, *, stretched: bool = False) -> Plain:
    merge_files(tmp_path, stretched=stretched)
    return read(tmp_path / "m.parquet")


def accesses(tmp_path: Path, *lines: str) -> list[Row]:
    """A program of a nanosecond an instruction; `i` executes, `r7` reads page 7, `w7` writes it."""
    made = []
    for line in lines:
        if line == "i":
            made.append(Access("I", 999 << 12, 1))
        else:
            made.append(Access("L" if line[0] == "r" else "S", int(line[1:]) << 12, 1))
    text = "".join(one.line() for one in made)
    return import_text(text, tmp_path / "r.parquet", window=1)


def test_by_hand(tmp_path: Path) -> None:
    """Two windows, and one that nothing is written in between them and behind them."""
    windows: Plain = [(0, 4, {1: True, 2: None}, set()), (8, 12, {3: False}, {4})]
    write(tmp_path / "w.parquet", windows, IN_PROCESS)
    with writer.WrittenPagesWriter(tmp_path / "w.parquet") as trace:
        for start, end, pages, reads in windows:
            known = np.array([-1 if c is None else int(c) for c in pages.values()], np.int8)
            trace.window(start, end, np.array([*pages], np.uint64), known,
                         np.array([*reads], np.uint64))  # fmt: skip
        trace.finish(IN_PROCESS, 16, 4)
    accesses(
        tmp_path, "i", "r1", "w1", "i", "w2", "r2", "r5", "i",  # 1, 2, 3
        "i", "r6", "i", "i", "i",  # 4 to 7
        "i", "w3", "i", "r3", "i", "w7", "r7", "i", "i", "i", "r8", "i", "i", "i", "r9",
    )  # fmt: skip
    found = [(a, b, w, r - {999}) for a, b, w, r in merged(tmp_path)]
    assert found == [
        (0, 4, {1: True, 2: None}, {1, 5}),  # 2 was read behind its write
        (4, 8, {}, {6}),
        (8, 12, {3: False}, {4, 7}),
        (12, 16, {}, {8}),
    ]


def model(windows: Plain, touches: list[tuple[int, int, bool]], duration: int, n: int) -> Plain:
    """Each touch put into its window by itself; what is between windows is cut by the mean."""
    mean = max(1, duration // n)
    found = {(a, b): (w, set(r)) for a, b, w, r in windows}
    borders = [0, *(x for a, b, *_ in windows for x in (a, b)), duration]
    wrote: set[tuple[tuple[int, int], int]] = set()
    for when, page, is_write in touches:
        if when >= duration:
            continue
        at = next((key for key in found if key[0] <= when < key[1]), None)
        if at is None:
            low, high = next((a, b) for a, b in pairwise(borders) if a <= when < b)
            begins = low + (when - low) // mean * mean
            at = begins, min(high, begins + mean)
        if is_write:
            wrote.add((at, page))
        elif not ((at, page) in wrote and page in found.get(at, ({}, set()))[0]):
            found.setdefault(at, ({}, set()))[1].add(page)
    return [(*key, *found[key]) for key in sorted(found) if found[key][0] or found[key][1]]


lines = st.lists(
    st.sampled_from(["i"] * 8)
    | st.builds("{}{}".format, st.sampled_from("rw"), st.integers(0, 40)),
    min_size=1,
    max_size=300,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(windows=recordings(), steps=lines, data=st.data())
def test_accesses_window_by_window(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    windows: Plain,
    steps: list[str],
    data: st.DataObject,
) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", 4)
    write(tmp_path / "w.parquet", windows, IN_PROCESS)
    duration = windows[-1][1]
    rows = accesses(tmp_path, "i", "r1", *steps, *["i"] * duration)
    stretched = data.draw(st.booleans())
    lap = sum(step == "i" for step in steps) + 1 + duration
    scale = duration / lap if stretched else 1.0
    touches = [(int(row.instruction * scale), row.page, row.write) for row in rows]
    check(tmp_path, windows, touches, stretched=stretched)


def check(
    tmp_path: Path, windows: Plain, touches: list[tuple[int, int, bool]], **options: bool
) -> None:
    duration = windows[-1][1]
    expected = model([w for w in windows if w[2] or w[3]], touches, duration, len(windows))
    if any(seen for *_, seen in expected):
        assert merged(tmp_path, **options) == expected
    else:
        with pytest.raises(BadTrace, match="nothing is read"):
            merged(tmp_path, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(windows=recordings(), second=recordings())
def test_reads_of_windows_are_spread_over_them(
    tmp_path: Path, windows: Plain, second: Plain
) -> None:
    write(tmp_path / "w.parquet", windows)
    duration = windows[-1][1]
    second.append((second[-1][1], second[-1][1] + duration, {}, {1}))
    write(tmp_path / "r.parquet", second)
    touches = [
        (start + int((k + 0.5) * ((end - start) / len(seen))), page, False)
        for start, end, _, seen in second
        for k, page in enumerate(sorted(seen))
    ]
    check(tmp_path, windows, touches)


def test_pages_of_a_larger_size(tmp_path: Path) -> None:
    write(tmp_path / "w.parquet", [(0, 8, {0: None}, set())], Recording(PROCESS, 65536))
    accesses(tmp_path, "i", "r15", "r16", "r40", *["i"] * 8)
    ((_, _, _, seen),) = merged(tmp_path)
    assert seen == {0, 1, 2, 999 // 16}


def test_of_what_is_known_the_description_says_all(tmp_path: Path) -> None:
    write(tmp_path / "w.parquet", [(0, 8, {1: None}, set())], IN_PROCESS)
    accesses(tmp_path, "i", "r1", *["i"] * 8)
    found = merge_files(tmp_path, LEAST_SHARE)
    assert (found.reads, found.behind_writes, found.share) == (2, 0, 1)  # and the instructions
    described = WrittenPagesFile(str(tmp_path / "m.parquet")).description
    assert described.recording.how == "by hand; reads: lackey"
    assert (described.duration_ns, described.windows) == (8, 1)


@pytest.mark.parametrize(
    ("windows", "recording", "lines", "says"),
    [
        ([(0, 8, {1: None}, set())], Recording(VM), ["i"] * 8, "of a process, and those of"),
        ([(0, 80, {1: None}, set())], IN_PROCESS, ["i"] * 8, "it lasts 8 ns and"),
        (
            [(0, 8, {1: None, 2: None, 3: None}, set())],
            IN_PROCESS,
            ["i", "r1", *["i"] * 8],
            "of 3 pages that are written in",
        ),
        ([(0, 8, {1: None}, set())], IN_PROCESS, ["i"] * 8, "touches 0%"),
    ],
)
def test_what_does_not_fit(
    tmp_path: Path, windows: Plain, recording: Recording, lines: list[str], says: str
) -> None:
    write(tmp_path / "w.parquet", windows, recording)
    accesses(tmp_path, *lines)
    with pytest.raises(BadTrace) as caught:
        merge_files(tmp_path, LEAST_SHARE)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.parquet").exists()


def test_what_is_no_pair(tmp_path: Path) -> None:
    write(tmp_path / "w.parquet", [(0, 8, {1: None}, set())])
    write(tmp_path / "r.parquet", [(0, 8, {1: None}, set())])
    with pytest.raises(BadTrace, match="nothing is read in it"):
        merged(tmp_path)
    write(tmp_path / "r.parquet", [(0, 8, {}, {1})], Recording(VM, 65536))
    with pytest.raises(BadTrace, match="its pages have 65536 bytes"):
        merged(tmp_path)
    accesses(tmp_path, "i", "r1")
    (tmp_path / "r.parquet").rename(tmp_path / "w.parquet")
    write(tmp_path / "r.parquet", [(0, 8, {}, {1})])
    with pytest.raises(BadTrace, match="it has every access"):
        merged(tmp_path)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Two million reads: 34 MB as arrays."""
    with writer.WrittenPagesWriter(tmp_path / "w.parquet") as trace:
        for number in range(1000):
            trace.window(number, number + 1, np.arange(1000, dtype=np.uint64))
        trace.finish(Recording(VM))
    with writer.WrittenPagesWriter(tmp_path / "r.parquet") as trace:
        for number in range(100):
            trace.window(number * 10, number * 10 + 10, np.zeros(0, np.uint64),
                         read=np.arange(20_000, dtype=np.uint64))  # fmt: skip
        trace.finish(Recording(VM))
    tracemalloc.start()
    found = merge_files(tmp_path, LEAST_SHARE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.reads == 2_000_000
    assert peak < 25 << 20


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(windows=recordings(), large=st.booleans(), seed=st.integers(0, 9))
def test_a_page_is_read_before_it_is_written(
    tmp_path: Path, windows: Plain, large: bool, seed: int
) -> None:
    """In the replay, frame by frame, lap by lap: and every row comes once in its window."""
    windows = low_pages(windows)
    windows = [(a * MS, b * MS, w, r | set(list(w)[:3])) for a, b, w, r in windows]
    windows = [(a, b, w, {p for p in r if p < 2**31}) for a, b, w, r in windows]
    windows = [(a, b, {p: c for p, c in w.items() if p < 2**31}, r) for a, b, w, r in windows]
    write(tmp_path / "w.parquet", windows, Recording(VM, 65536 if large else 4096))
    parts = 16 if large else 1
    n_ops, ops = lap_of(make_replay(str(tmp_path / "w.parquet"), seed))
    both = [sum(len(w) + len(r) for _, _, w, r in windows) * parts]
    for lap in (touched(ops[:n_ops]), touched(ops)[both[0] :]):
        at = iter(lap)
        for _, _, written, seen in windows:
            here = [next(at) for _ in range((len(written) + len(seen)) * parts)]
            frames = [(frame, kind == READ) for _, frame, kind in here]
            of = {page * parts + part for page in written for part in range(parts)}
            seen_frames = {page * parts + part for page in seen for part in range(parts)}
            assert sorted(frames) == sorted(
                [(frame, False) for frame in of] + [(frame, True) for frame in seen_frames]
            )
            for frame in of & seen_frames:
                assert frames.index((frame, True)) < frames.index((frame, False))
