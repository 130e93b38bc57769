"""Replaying a trace: the operations are its rows, whatever way they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.config import GuestConfig, GuestTables
from paging_core.errors import GuestOutOfMemory
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.traces import lackey
from paging_core.traces.opening import make_replay
from paging_core.traces.reader import TraceFile
from paging_core.traces.replay import SILENT_FRACTION
from paging_core.workloads.ops import MMAP, OP_DTYPE, READ, REWRITE, WRITE, Ops, Workload
from tests.paging_core.lackey_reference import Access, Row, import_text

MIB = 2**20
SPEED = 200_000_000
PS_PER_INSTRUCTION = 5000
PAGES = [1, 2, 3, 5, 700, 701, 2**35 - 1]
TEXT = (
    "".join(
        Access("IISLIMIS"[i % 8], 4096 * PAGES[(i * 5 + i // 9) % 7], 4).line() for i in range(4000)
    )
    + "I  00001000,3\n" * 5
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Row]]:
    """The path of a trace of several row groups, and its rows."""
    out = tmp_path_factory.mktemp("traces") / "some.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lackey, "GROUP_ROWS", 60)
        patch.setattr(lackey, "MAX_WINDOW_ROWS", 60)
        rows = import_text(TEXT, out, window=12, speed=SPEED)
    assert TraceFile(str(out)).n_groups > 5
    return str(out), rows


def ops_of(replay: Workload, first: int, count: int) -> Ops:
    ops = np.zeros(count, OP_DTYPE)
    replay.fill(first, ops)
    return ops


def test_an_operation_is_a_row(recorded: tuple[str, list[Row]]) -> None:
    path, rows = recorded
    ops = ops_of(make_replay(path, 0), 0, len(rows))
    before = 0
    for op, row in zip(ops, rows, strict=True):
        assert op["address"] >> 12 == row.page
        assert op["address"] % 8 == 0
        assert op["kind"] in ((WRITE, REWRITE) if row.write else (READ,))
        assert op["words"] == row.accesses
        assert op["address"] % 4096 // 8 + op["words"] <= 512
        assert op["gap_ps"] == (row.instruction - before) * PS_PER_INSTRUCTION
        before = row.instruction


def test_it_begins_again_where_it_ended(recorded: tuple[str, list[Row]]) -> None:
    path, rows = recorded
    replay = make_replay(path, 0)
    first, second, third = (ops_of(replay, lap * len(rows), len(rows)) for lap in range(3))
    assert np.array_equal(first["address"] >> 12, second["address"] >> 12)
    assert np.array_equal(first["gap_ps"][1:], second["gap_ps"][1:])
    # A lap takes as long as the program ran: the instructions after the last row count, too.
    instructions = TEXT.count("I ")
    assert int(second["gap_ps"].sum()) == instructions * PS_PER_INSTRUCTION
    assert np.array_equal(second["gap_ps"], third["gap_ps"])
    assert len(np.unique(np.concatenate((first["value"], second["value"])))) == 2 * len(rows)


@given(data=st.data())
def test_however_it_is_cut_it_is_the_same(
    recorded: tuple[str, list[Row]], data: st.DataObject
) -> None:
    path, rows = recorded
    start = data.draw(st.integers(0, 3 * len(rows)))
    sizes = data.draw(st.lists(st.integers(1, 700), min_size=1, max_size=6))
    whole = ops_of(make_replay(path, 7), start, sum(sizes))
    replay, pieces, at = make_replay(path, 7), [], start
    for size in sizes:
        pieces.append((at, ops_of(replay, at, size)))
        at += size
    assert np.array_equal(np.concatenate([ops for _, ops in pieces]), whole)
    for first, ops in reversed(pieces):  # nor does the order matter
        assert np.array_equal(ops_of(replay, first, len(ops)), ops)


def test_the_seed_decides_the_data_and_nothing_else(recorded: tuple[str, list[Row]]) -> None:
    path, rows = recorded
    one, same, other = (ops_of(make_replay(path, seed), 0, len(rows)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one["value"], other["value"])
    assert np.array_equal(one["address"] >> 12, other["address"] >> 12)
    assert np.array_equal(one["gap_ps"], other["gap_ps"])


def test_some_writes_are_silent(recorded: tuple[str, list[Row]]) -> None:
    path, _ = recorded
    kinds = ops_of(make_replay(path, 3), 0, 20_000)["kind"]
    silent = np.count_nonzero(kinds == REWRITE) / np.count_nonzero(kinds != READ)
    assert SILENT_FRACTION * 0.8 < silent < SILENT_FRACTION * 1.2


def test_setup_maps_and_fills_what_was_there_before_the_recording(
    recorded: tuple[str, list[Row]],
) -> None:
    path, rows = recorded
    setup = make_replay(path, 0).setup()
    maps = setup[setup["kind"] == MMAP]
    mapped = [
        page
        for op in maps
        for page in range(op["address"] >> 12, (op["address"] >> 12) + op["value"])
    ]
    first_kind = {row.page: row.write for row in reversed(rows)}
    assert mapped == sorted(page for page, write in first_kind.items() if not write)
    assert (setup[setup["kind"] == WRITE]["address"] >> 12).tolist() == mapped
    assert 0 < len(mapped) < len(first_kind)


def test_a_page_that_was_born_by_a_write_is_so_in_the_guest(
    recorded: tuple[str, list[Row]],
) -> None:
    """One demand-zero fault for each, at its first write, and none in the laps to come."""
    path, rows = recorded
    guest = ModelGuest.boot(GuestConfig(MIB, workload="", trace=path))
    first_kind = {row.page: row.write for row in reversed(rows)}
    booted = guest.counters().events["guest_fault"]
    for _ in range(2):
        guest.run_accesses(len(rows))
        born = guest.counters().events["guest_fault"] - booted
        assert born == sum(first_kind.values())


def test_without_demand_zero_setup_maps_every_page(recorded: tuple[str, list[Row]]) -> None:
    path, rows = recorded
    setup = make_replay(path, 0, demand_zero=False).setup()
    maps = setup[setup["kind"] == MMAP]
    mapped = [
        page
        for op in maps
        for page in range(op["address"] >> 12, (op["address"] >> 12) + op["value"])
    ]
    assert mapped == sorted({row.page for row in rows})
    assert len(maps) == 4  # 1 to 3, 700 and 701, and two that stand alone
    first_kind = {row.page: row.write for row in reversed(rows)}
    filled = setup[setup["kind"] == WRITE]
    assert (filled["address"] >> 12).tolist() == [p for p in mapped if not first_kind[p]]
    assert set(filled["words"].tolist()) == {512}
    assert 0 < len(filled) < len(mapped)


def test_a_guest_that_moved_goes_on_as_one_that_did_not(recorded: tuple[str, list[Row]]) -> None:
    path, rows = recorded
    twin = ModelGuest.boot(GuestConfig(MIB, workload="", trace=path, seed=5))
    guest = ModelGuest.boot(GuestConfig(MIB, workload="", trace=path, seed=5))
    guest.run_accesses(len(rows) - 100)
    memory = GuestMemory(guest.n_frames)
    np.copyto(memory.frames, guest.memory.frames)
    moved = ModelGuest.resume(memory, guest.state(), make_replay(path, seed=5))
    moved.run_accesses(777)
    twin.run_accesses(len(rows) - 100 + 777)
    assert np.array_equal(moved.memory.frames, twin.memory.frames)
    assert moved.architectural_state() == twin.architectural_state()
    assert moved.trace_digest == twin.trace_digest != 0


def test_with_clean_tables_no_page_is_touched_that_was_not_mapped(
    recorded: tuple[str, list[Row]],
) -> None:
    path, rows = recorded
    config = GuestConfig(MIB, workload="", trace=path, guest_tables=GuestTables.CLEAN)
    guest = ModelGuest.boot(config)
    guest.run_accesses(2 * len(rows))
    assert guest.counters().events["guest_fault"] == 0


def test_a_trace_larger_than_the_guest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    import_text("".join(Access("I", 4096 * (1 + i), 8).line() for i in range(1000)), path)
    with pytest.raises(GuestOutOfMemory) as caught:
        ModelGuest.boot(GuestConfig(2 * MIB, workload="", trace=str(path)))
    assert str(caught.value) == (
        "trace large.parquet needs 3.9 MiB with its page tables, and a guest of 2.0 MiB has "
        "2.0 MiB free; use --memory 8MiB or more"
    )
    ModelGuest.boot(GuestConfig(8 * MIB, workload="", trace=str(path)))
