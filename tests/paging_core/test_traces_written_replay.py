"""Replaying written pages: every page once in its window, whatever way it is asked for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paging_core.config import GuestConfig, Paging, TrackerConfig
from paging_core.errors import BadTrace
from paging_core.model_guest import ModelGuest
from paging_core.traces.opening import make_replay, open_trace
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import SILENT_FRACTION
from paging_core.traces.written import writer
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.replay import WORDS
from paging_core.traces.written.schema import PROCESS, VM, Recording
from paging_core.units import FRAME_BYTES
from paging_core.workloads.ops import (
    IDLE,
    MMAP,
    MMAP_HUGE,
    OP_DTYPE,
    READ,
    REWRITE,
    WRITE,
    Ops,
    Workload,
)
from tests.paging_core.lackey_reference import Access, import_text
from tests.paging_core.test_traces_written import Plain, recordings, write

MS = 1_000_000
PS = 1000


def lap_of(replay: Workload) -> tuple[int, Ops]:
    """How many operations a lap has, and those of two laps."""
    n_ops: int = replay._timetable.n_ops  # type: ignore[attr-defined]
    ops = np.zeros(2 * n_ops, OP_DTYPE)
    replay.fill(0, ops)
    return n_ops, ops


def touched(ops: Ops) -> list[tuple[int, int, int]]:
    """When (ps), which frame, which kind; a guest does nothing in other operations but wait."""
    now, found = 0, []
    for op in ops:
        now += int(op["gap_ps"])
        if op["kind"] == IDLE:
            assert 0 <= int(op["value"]) <= MS
            now += int(op["value"]) * PS
        else:
            assert op["words"] == WORDS
            assert op["address"] % 8 == 0
            assert op["address"] % FRAME_BYTES // 8 + WORDS <= 512
            found.append((now, int(op["address"]) >> 12, int(op["kind"])))
    return found


def low_pages(windows: Plain) -> Plain:
    """Page numbers that a process can have."""
    small = 2**35
    return [
        (a, b, {page % small: c for page, c in w.items()}, {page % small for page in r})
        for a, b, w, r in windows
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(windows=recordings(), slow=st.sampled_from([1, 700, MS]), seed=st.integers(0, 9))
def test_every_page_once_in_its_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: Plain, slow: int, seed: int
) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", 4)
    windows = [(a * slow, b * slow, w, r) for a, b, w, r in low_pages(windows)]
    write(tmp_path / "t.parquet", windows)
    n_ops, ops = lap_of(make_replay(str(tmp_path / "t.parquet"), seed))
    expected = sorted(
        (number, page, kind)
        for number, (_, _, written, read) in enumerate(windows)
        for page, kind in [(page, "w") for page in written] + [(page, "r") for page in read]
    )
    for lap in range(2):
        found = []
        began_ps = lap * windows[-1][1] * PS
        seen = touched(ops) if lap else touched(ops[:n_ops])
        for when, frame, kind in seen[len(expected) * lap :]:
            at_ns = (when - began_ps) / PS
            number = _window_of(windows, at_ns)
            known = windows[number][2].get(frame)
            if kind in (WRITE, REWRITE) and known is not None:
                assert kind == (WRITE if known else REWRITE)
            found.append((number, frame, "r" if kind == READ else "w"))
        assert sorted(found) == expected


def _window_of(windows: Plain, at_ns: float) -> int:
    """The window (start, end] that a touch falls into: the first comes a step after it began."""
    return next(i for i, (_, end, *_) in enumerate(windows) if at_ns <= end + 1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data())
def test_however_it_is_cut_it_is_the_same(tmp_path: Path, data: st.DataObject) -> None:
    windows = low_pages(data.draw(recordings()))
    write(tmp_path / "t.parquet", [(a * MS, b * MS, w, r) for a, b, w, r in windows])
    replay = make_replay(str(tmp_path / "t.parquet"), 3)
    start = data.draw(st.integers(0, 500))
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=5))
    whole = np.zeros(sum(sizes), OP_DTYPE)
    replay.fill(start, whole)
    at = 0
    for size in sizes:
        part = np.zeros(size, OP_DTYPE)
        replay.fill(start + at, part)
        assert np.array_equal(part, whole[at : at + size])
        at += size


def test_the_pace_of_a_window_by_hand(tmp_path: Path) -> None:
    """Four pages in 40 ms: ten milliseconds apart. Then 7 ms of nothing, and again."""
    write(tmp_path / "t.parquet", [(0, 40 * MS, dict.fromkeys((1, 2, 3, 4)), set())])
    with writer.WrittenPagesWriter(tmp_path / "u.parquet") as trace:
        trace.window(0, 40 * MS, np.array([1, 2, 3, 4], np.uint64))
        trace.finish(Recording(VM), duration_ns=47 * MS)
    for name, lap in (("t", 40), ("u", 47)):
        _, ops = lap_of(make_replay(str(tmp_path / f"{name}.parquet"), 0))
        when = [at // (PS * MS) for at, *_ in touched(ops)]
        assert when == [10, 20, 30, 40, lap + 10, lap + 20, lap + 30, lap + 40]


def test_time_does_not_run_away(tmp_path: Path) -> None:
    """600 pages in a microsecond leave 400 ps over, window by window; after 50 it is 50 µs."""
    windows: Plain = [
        (i * 1000, i * 1000 + 1000, dict.fromkeys(range(600)), set()) for i in range(50)
    ]
    write(tmp_path / "t.parquet", windows)
    n_ops, ops = lap_of(make_replay(str(tmp_path / "t.parquet"), 0))
    assert touched(ops[:n_ops])[-1][0] == 50_000 * PS - 400


def test_the_seed_decides_order_and_data(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, dict.fromkeys(range(50)), set())])
    one, same, other = (lap_of(make_replay(str(tmp_path / "t.parquet"), s))[1] for s in (1, 1, 2))
    assert np.array_equal(one, same)
    frames = [[frame for _, frame, _ in touched(ops)] for ops in (one, other)]
    assert frames[0] != frames[1]
    assert frames[0][:50] != frames[0][50:]  # nor is one lap like the other
    assert sorted(frames[0][:50]) == list(range(50))


def test_neighbours_are_written_far_apart(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, dict.fromkeys(range(1000)), set())])
    _, ops = lap_of(make_replay(str(tmp_path / "t.parquet"), 1))
    frames = [frame for _, frame, _ in touched(ops)][:1000]
    assert min(abs(a - b) for a, b in pairwise(frames)) > 300


def test_silent_writes_are_an_assumption_only_where_nothing_was_measured(tmp_path: Path) -> None:
    pages = range(8000)
    write(tmp_path / "t.parquet", [(0, MS, dict.fromkeys(pages), set())])
    _, ops = lap_of(make_replay(str(tmp_path / "t.parquet"), 1))
    assert np.mean(ops["kind"] == REWRITE) == pytest.approx(SILENT_FRACTION, abs=0.02)
    write(tmp_path / "t.parquet", [(0, MS, {page: page % 3 > 0 for page in pages}, set())])
    _, ops = lap_of(make_replay(str(tmp_path / "t.parquet"), 1))
    for op in ops:
        page = int(op["address"]) >> 12
        assert op["kind"] == (WRITE if page % 3 > 0 else REWRITE)


def test_a_large_page_is_all_of_its_frames(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, {5: None}, set())], Recording(VM, 65536))
    n_ops, ops = lap_of(make_replay(str(tmp_path / "t.parquet"), 1))
    assert n_ops == 16
    assert sorted(frame for _, frame, _ in touched(ops[:16])) == list(range(80, 96))


@pytest.mark.parametrize(("recorded", "kind"), [(VM, MMAP_HUGE), (PROCESS, MMAP)])
def test_whole_blocks_are_mapped(tmp_path: Path, recorded: str, kind: int) -> None:
    write(tmp_path / "t.parquet", [(0, MS, {1000: None}, {3})], Recording(recorded))
    setup = make_replay(str(tmp_path / "t.parquet"), 0).setup()
    maps = setup[setup["kind"] == kind]
    assert [(int(op["address"]) >> 12, int(op["value"])) for op in maps] == [(0, 1024)]
    filled = setup[setup["kind"] == WRITE]
    assert (filled["address"] >> 12).tolist() == [3, 1000]
    assert (filled["words"] == 512).all()


def config(path: Path, paging: Paging, memory_mib: int = 8) -> GuestConfig:
    return GuestConfig(
        memory_mib << 20, TrackerConfig(paging=paging), workload="", trace=str(path), seed=1
    )


def test_a_guest_under_hap_dirties_what_was_recorded(tmp_path: Path) -> None:
    """Window by window, page by page; what is neighbours in the trace is neighbours in memory."""
    first, second = {7, 8, 9, 64, 600}, {9, 601, 602, 700}
    windows: Plain = [
        (0, 10 * MS, dict.fromkeys(first), set()),
        (10 * MS, 20 * MS, dict.fromkeys(second), set()),
    ]
    write(tmp_path / "t.parquet", windows)
    guest = ModelGuest.boot(config(tmp_path / "t.parquet", Paging.HAP))
    guest.start_tracking()
    written = guest.machine.frames["written"]
    for pages in (first, second):
        written[:] = 0
        guest.run(guest.time_ns + 10 * MS)
        gfns = np.flatnonzero(written)
        assert len(gfns) == len(pages)
        assert [int(gfn) % 512 for gfn in gfns] == sorted(page % 512 for page in pages)
    guest.close()


def test_shadow_needs_reads(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, {7: None}, set())])
    with pytest.raises(BadTrace, match=r"no reads, and shadow paging .* --paging hap"):
        ModelGuest.boot(config(tmp_path / "t.parquet", Paging.SHADOW))
    write(tmp_path / "t.parquet", [(0, MS, {7: None}, {9})])
    ModelGuest.boot(config(tmp_path / "t.parquet", Paging.SHADOW)).close()


def test_a_page_above_what_a_process_has(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, MS, {2**35: None}, set())])
    with pytest.raises(BadTrace, match="page 0x800000000 lies at or above"):
        make_replay(str(tmp_path / "t.parquet"), 0)


def test_a_recording_in_which_nothing_was_written_waits(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, 5 * MS, {}, set())])
    guest = ModelGuest.boot(config(tmp_path / "t.parquet", Paging.HAP))
    guest.run(guest.time_ns + 50 * MS)
    assert not guest.machine.frames["written"].any()
    guest.close()


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", [(0, 1, {1: None}, set())])
    import_text(Access("I", 4096, 4).line(), tmp_path / "u.parquet")
    assert isinstance(open_trace(str(tmp_path / "t.parquet")), WrittenPagesFile)
    assert isinstance(open_trace(str(tmp_path / "u.parquet")), TraceFile)
