"""Each generator against its specification in docs/workloads.md, counted in plain numpy.

Distributions are compared by chi-square: with `d` degrees of freedom it is about d, give or
take sqrt(2 d). Seeds are fixed, so a test that passes once passes always.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paging_core.config import GuestConfig, TrackerConfig
from paging_core.model_guest import ModelGuest
from paging_core.units import FRAME_BYTES
from paging_core.workloads.catalog import describe_workloads, make_workload
from paging_core.workloads.ops import (
    EXIT,
    FILE_READ,
    FILE_REWRITE,
    FILE_SYNC,
    FILE_WRITE,
    FORK,
    IDLE,
    MMAP,
    MMAP_HUGE,
    MMAP_PRIVATE,
    MUNMAP,
    OP_DTYPE,
    READ,
    REWRITE,
    SWITCH,
    WRITE,
    Ops,
)
from tests.paging_core.reference.harness import content

BASE = 1 << 32
PAGES = 64
WSS = f"wss={PAGES * FRAME_BYTES // 1024}KiB"
MANY = 40_000
WRITES = (WRITE, REWRITE, FILE_WRITE, FILE_REWRITE)
RANDOM = ("uniform", "zipf", "hotcold", "phased", "read-mostly")
PACED = (*RANDOM, "sequential", "strided")
ALL = (*PACED, "churn", "switches", "files")


def operations(spec: str, n: int = MANY, *, first: int = 0, seed: int = 3) -> Ops:
    ops = np.zeros(n, OP_DTYPE)
    make_workload(spec, seed).fill(first, ops)
    return ops


def accesses(ops: Ops) -> Ops:
    return ops[np.isin(ops["kind"], (READ, FILE_READ, *WRITES))]


def writes(ops: Ops) -> Ops:
    return ops[np.isin(ops["kind"], WRITES)]


def pages(ops: Ops) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = (ops["address"] - BASE) // FRAME_BYTES
    return numbers


def time_ps(ops: Ops) -> int:
    idle_ns = int(ops["value"][ops["kind"] == IDLE].sum())
    return int(ops["gap_ps"].astype(np.int64).sum()) + idle_ns * 1000


def agrees(observed: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> bool:
    expected = share * observed.sum()
    chi_square = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(observed) - 1
    return abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)


def is_share(part: int, whole: int, share: float) -> bool:
    return abs(part - whole * share) <= 5 * math.sqrt(whole * share * (1 - share))


def test_every_workload_of_the_catalog_is_tested_here() -> None:
    assert {info.name for info in describe_workloads()} == {*ALL, "idle"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 1.0])
def test_as_many_accesses_write_as_were_asked_for(name: str, share: float) -> None:
    ops = accesses(operations(f"{name}:{WSS},writes={share}"))
    if name in {"churn", "switches", "files"}:
        assert MANY - len(ops) < 100
    else:
        assert len(ops) == MANY
    assert is_share(len(writes(ops)), len(ops), share)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("rate", "share"), [(50e3, 0.5), (500e3, 0.25), (20e6, 1.0), (7e3, 0.1)])
def test_the_time_between_accesses_is_writes_by_write_rate(
    name: str, rate: float, share: float
) -> None:
    ops = operations(f"{name}:{WSS},writes={share},write_rate={rate}")
    n = len(accesses(ops))
    assert time_ps(ops) == pytest.approx(n * 1e12 * share / rate, rel=1e-6)


@pytest.mark.parametrize("rate", [10.0, 100.0, 217.0])
def test_a_long_time_between_accesses_is_made_of_short_waits(rate: float) -> None:
    ops = operations(f"uniform:{WSS},writes=1,write_rate={rate}", 30_000)
    steps = np.flatnonzero(ops["kind"] != IDLE)
    assert ops["value"][ops["kind"] == IDLE].max() <= 1_000_000
    whole = ops[: steps[-1] + 1]
    assert time_ps(whole) == pytest.approx(len(steps) * 1e12 / rate, rel=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.75, 1.0])
def test_as_many_writes_are_silent_as_were_asked_for(name: str, share: float) -> None:
    written = writes(operations(f"{name}:{WSS},silent={share}"))
    assert is_share(
        len(written[np.isin(written["kind"], (REWRITE, FILE_REWRITE))]), len(written), share
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("words", [1, 8, 512])
def test_a_write_stays_within_one_frame_of_the_working_set(name: str, words: int) -> None:
    ops = accesses(operations(f"{name}:{WSS},words={words},writes=1"))
    assert (ops["words"] == words).all()
    assert (ops["address"] % 8 == 0).all()
    assert (ops["address"] % FRAME_BYTES + 8 * words <= FRAME_BYTES).all()
    in_memory = ops[ops["address"] >= BASE]  # and not of a file
    own = in_memory[in_memory["address"] < BASE + (1 << 39)]  # nor a child's, or another process's
    assert pages(own).min() >= 0
    assert pages(own).max() < PAGES


@pytest.mark.parametrize("name", RANDOM)
def test_a_write_begins_at_any_word_from_which_it_fits(name: str) -> None:
    ops = accesses(operations(f"{name}:{WSS},words=500"))
    counts = np.bincount(ops["address"] % FRAME_BYTES // 8)
    assert agrees(counts, np.full(13, 1 / 13))


@pytest.mark.parametrize("name", [*ALL, "idle"])
@given(data=st.data())
def test_how_a_run_is_cut_changes_nothing(name: str, data: st.DataObject) -> None:
    rate = "" if name == "idle" else data.draw(st.sampled_from(["", ",write_rate=100"]))
    few = {
        "churn": ",fork_every=40",
        "phased": ",phase_ops=70",
        "switches": ",switch_every=9",
        "files": ",sync_every=30",
    }
    small = few.get(name, "")
    spec = f"{name}:{WSS}{rate}{small}"
    first = data.draw(st.integers(0, 10**6))
    cuts = sorted(data.draw(st.lists(st.integers(0, 600), max_size=6)))
    whole = operations(spec, 600, first=first)
    edges = [0, *cuts, 600]
    parts = [operations(spec, end - start, first=first + start) for start, end in pairwise(edges)]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides(name: str) -> None:
    spec = f"{name}:{WSS}"
    assert (operations(spec, 500, seed=1) == operations(spec, 500, seed=1)).all()
    assert (operations(spec, 500, seed=1) != operations(spec, 500, seed=2)).any()


@pytest.mark.parametrize("seed", [1, 2])
def test_uniform_takes_every_page_as_often(seed: int) -> None:
    counts = np.bincount(pages(operations(f"uniform:{WSS}", seed=seed)), minlength=PAGES)
    assert agrees(counts, np.full(PAGES, 1 / PAGES))


@pytest.mark.parametrize("s", [0.0, 0.5, 0.99, 1.5, 3.0])
def test_zipf_takes_the_page_of_rank_k_as_k_to_the_minus_s(s: float) -> None:
    counts = np.bincount(pages(operations(f"zipf:{WSS},s={s},scatter=0")), minlength=PAGES)
    exact = round(s * 1024) / 1024
    weights = np.array([(k + 1) ** -exact for k in range(PAGES)])
    share = weights / weights.sum()
    often = share * MANY >= 5  # chi-square needs some of each; the rest is one class
    rest = ~often
    observed = np.append(counts[often], counts[rest].sum()) if rest.any() else counts
    expected = np.append(share[often], share[rest].sum()) if rest.any() else share
    assert agrees(observed, expected)


def test_zipf_scatters_its_ranks_over_the_working_set() -> None:
    in_order = np.bincount(pages(operations(f"zipf:{WSS},s=2,scatter=0")), minlength=PAGES)
    scattered = np.bincount(pages(operations(f"zipf:{WSS},s=2,scatter=1")), minlength=PAGES)
    assert in_order.argmax() == 0
    hottest = np.argsort(scattered)[::-1][:8]
    assert hottest.tolist() != list(range(8))
    first = 1 / sum(k**-2.0 for k in range(1, PAGES + 1))
    second = first / 4
    assert is_share(int(np.sort(scattered)[-1]), MANY, first)
    assert is_share(int(np.sort(scattered)[-2]), MANY, second)


@pytest.mark.parametrize(("hot", "share"), [(0.25, 0.98), (0.125, 0.5), (0.5, 0.0)])
def test_hotcold_goes_to_its_hot_start_as_often_as_told(hot: float, share: float) -> None:
    counts = np.bincount(
        pages(operations(f"hotcold:{WSS},hot={hot},hot_accesses={share}")), minlength=PAGES
    )
    n_hot = int(PAGES * hot)
    assert is_share(int(counts[:n_hot].sum()), MANY, share)
    for part in (counts[:n_hot], counts[n_hot:]):
        if part.sum() > 5 * len(part):
            assert agrees(part, np.full(len(part), 1 / len(part)))


def test_hotcold_without_a_cold_rest_is_uniform() -> None:
    counts = np.bincount(pages(operations(f"hotcold:{WSS},hot=1,hot_accesses=0.2")))
    assert agrees(counts, np.full(PAGES, 1 / PAGES))


@pytest.mark.parametrize("words", [1, 8, 100, 512])
def test_sequential_goes_straight_through(words: int) -> None:
    ops = operations(f"sequential:{WSS},words={words}", 3 * PAGES * 512)
    per_page = 512 // words
    expected = [
        BASE + page * FRAME_BYTES + slot * words * 8
        for page in range(PAGES)
        for slot in range(per_page)
    ]
    laps = -(-len(ops) // len(expected))
    assert ops["address"].tolist() == (expected * laps)[: len(ops)]


@pytest.mark.parametrize("stride", [64, 4096, 16384, 12_288])
def test_strided_steps_by_its_stride_and_a_lap_begins_one_write_further_on(stride: int) -> None:
    size = PAGES * FRAME_BYTES
    ops = operations(f"strided:{WSS},stride={stride},words=8", 20_000)
    expected: list[int] = []
    lap = 0
    while len(expected) < len(ops):
        shift = lap % max(1, stride // 64) * 64
        expected += (
            BASE + (at + shift if at + shift < size else at) for at in range(0, size, stride)
        )
        lap += 1
    assert ops["address"].tolist() == expected[: len(ops)]


@pytest.mark.parametrize(("phases", "phase_ops"), [(4, 1000), (7, 333)])
def test_phased_takes_one_part_after_the_other(phases: int, phase_ops: int) -> None:
    spec = f"phased:{WSS},phases={phases},phase_ops={phase_ops}"
    at = pages(operations(spec))
    for phase in range(3 * phases):
        part = phase % phases
        first, end = part * PAGES // phases, (part + 1) * PAGES // phases
        inside = at[phase * phase_ops : (phase + 1) * phase_ops]
        counts = np.bincount(inside - first, minlength=end - first)
        assert len(counts) == end - first
        assert agrees(counts, np.full(end - first, 1 / (end - first)))


@pytest.mark.parametrize("written", [0.125, 0.5])
def test_read_mostly_writes_only_a_part(written: float) -> None:
    ops = operations(f"read-mostly:{WSS},written={written},writes=0.3")
    n_written = int(PAGES * written)
    stores = np.bincount(pages(writes(ops)))
    assert agrees(stores, np.full(n_written, 1 / n_written))
    loads = np.bincount(pages(ops[ops["kind"] == READ]))
    assert agrees(loads, np.full(PAGES, 1 / PAGES))


def test_churn_forks_maps_unmaps_and_ends_as_documented() -> None:
    fork_every, children, cycles = 400, 3, 20
    ops = operations(
        f"churn:{WSS},fork_every={fork_every},children={children},region=32KiB",
        cycles * (fork_every + 7),
    )
    kinds = Counter(ops["kind"].tolist())
    assert kinds[FORK] == kinds[MMAP] == kinds[MUNMAP] == cycles
    assert kinds[EXIT] == cycles - children
    assert kinds[SWITCH] == 3 * cycles
    assert len(accesses(ops)) == cycles * fork_every
    alive: set[int] = set()
    most = 0
    for op in ops:
        if op["kind"] == FORK:
            assert int(op["address"]) not in alive
            alive.add(int(op["address"]))
            most = max(most, len(alive))
        elif op["kind"] == EXIT:
            alive.remove(int(op["address"]))
        elif op["kind"] == MMAP:
            assert op["value"] == 8
        elif op["kind"] == MUNMAP:
            assert op["value"] == 4
    assert most == children


def test_processes_take_turns_and_keep_to_their_own_part() -> None:
    ops = operations(f"switches:{WSS},processes=3,switch_every=100", 7 * 101)
    turns = ops.reshape(7, 101)
    assert turns["kind"][:, 0].tolist() == [SWITCH] * 7
    assert turns["address"][:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    for turn in turns:
        page = pages(turn[1:]) - int(turn["address"][0]) * (1 << 27)
        assert (turn["kind"][1:] != SWITCH).all()
        assert page.min() >= 0
        assert page.max() < PAGES


def test_each_process_has_a_working_set_with_data_of_its_own() -> None:
    config = GuestConfig(4 << 20, workload=f"switches:{WSS},processes=3")
    guest = ModelGuest.boot(config)
    for process in range(3):
        found = content(guest, process)
        first = BASE + process * (1 << 39)
        assert sorted(found) == [first + i * FRAME_BYTES for i in range(PAGES)]
        assert all(any(page) for page in found.values())


def test_after_a_blow_a_process_that_is_switched_back_to_is_shadowed_anew() -> None:
    """Shadow pages built after a clean, by hand, and how many are torn down meanwhile.

    The running process builds L3, L2 and L1 under the root that the clean left, unpinned. The
    switch loses all four; the other process builds its four, as their root is loaded and pinned.
    Back again four more, and from there on both are kept. With a root that stays pinned it would
    be three, four and none.
    """
    tracker = TrackerConfig(prefetch=False)
    spec = "switches:wss=16KiB,switch_every=99,writes=1"
    guest = ModelGuest.boot(GuestConfig(4 << 20, tracker, workload=spec))
    guest.run_accesses(4 * 100 + 20)
    guest.start_tracking()
    guest.clean()  # starting has loaded and pinned the root again
    built = []
    for accesses_to_run in (70, 100, 100, 100, 100):
        before = guest.counters().events
        guest.run_accesses(accesses_to_run)
        after = guest.counters().events
        names = ("shadow_page_build", "shadow_teardown_page")
        built.append(tuple(after[name] - before[name] for name in names))
    assert built == [(3, 0), (4, 4), (4, 0), (0, 0), (0, 0)]


def test_files_goes_by_mapping_and_call_as_often_as_told() -> None:
    """And each way to every page of the file as often; a read() stores to the first own page."""
    spec = f"files:{WSS},file=128KiB,shared=0.3,private=0.2,calls=0.4,sync_every=1000,writes=0.5"
    ops = accesses(operations(spec))
    calls = np.isin(ops["kind"], (FILE_READ, FILE_WRITE))
    part = np.where(calls, 3, (ops["address"] - BASE) >> 40)
    counts = np.array([(part == which).sum() for which in (1, 2, 3, 0)])
    assert agrees(counts, np.array([0.3, 0.2, 0.4, 0.1]))
    for which, base in ((1, BASE + (1 << 40)), (2, BASE + (2 << 40)), (3, 0)):
        own = np.bincount((ops["address"][part == which] - base) // FRAME_BYTES, minlength=32)
        assert agrees(own, np.full(32, 1 / 32))
    assert set(ops["value"][ops["kind"] == FILE_READ].tolist()) == {BASE}
    assert is_share(int((ops["kind"] == FILE_WRITE).sum()), int(calls.sum()), 0.5)


def test_files_writes_back_and_drops_its_copies_every_so_often() -> None:
    ops = operations(f"files:{WSS},file=128KiB,sync_every=50", 5 * 52)
    system = np.flatnonzero(~np.isin(ops["kind"], (READ, FILE_READ, *WRITES)))
    assert system.tolist() == [52 * i + j for i in range(5) for j in (0, 1)]
    first = [tuple(op) for op in ops[["kind", "address", "value"]][:2].tolist()]
    assert first == [(FILE_SYNC, 0, 32), (MMAP_PRIVATE, BASE + (2 << 40), 32)]


def test_churn_never_touches_what_it_unmapped_and_shares_its_accesses_out() -> None:
    fork_every = 4000
    ops = operations(f"churn:{WSS},fork_every={fork_every},children=2,region=32KiB", fork_every + 7)
    region = BASE + (1 << 40)
    first_half, current, in_region = True, 0, 0
    for op in ops:
        kind, address = int(op["kind"]), int(op["address"])
        if kind == SWITCH:
            current = address
        elif kind == MUNMAP:
            first_half = False
        elif kind in {READ, WRITE, REWRITE} and address >= region:
            assert current != 0
            page = (address - region) // FRAME_BYTES
            assert (0 if first_half else 4) <= page < 8
            in_region += 1
    # Three parts of four have a region, and go there every other time.
    assert is_share(in_region, 3 * fork_every // 4, 0.5)


@pytest.mark.parametrize("tick_ns", [1000, 250_000])
def test_idle_only_waits(tick_ns: int) -> None:
    ops = operations(f"idle:tick={tick_ns}ns", 100)
    assert (ops["kind"] == IDLE).all()
    assert time_ps(ops) == 100 * tick_ns * 1000


@pytest.mark.parametrize("name", [*PACED, "churn"])
def test_the_working_set_is_mapped_and_filled_at_boot(name: str) -> None:
    with_data = make_workload(f"{name}:{WSS}", 5).setup()
    assert with_data[0]["kind"] == MMAP
    assert with_data[0]["address"] == BASE
    assert with_data[0]["value"] == PAGES
    assert sorted(pages(with_data[1:]).tolist()) == list(range(PAGES))
    assert (with_data["words"][1:] == 512).all()
    assert len(set(with_data["value"][1:].tolist())) == PAGES
    zeros = make_workload(f"{name}:{WSS},init=0", 5).setup()
    assert len(zeros) == 1


@pytest.mark.parametrize("name", PACED)
def test_superpages_are_mapped_as_superpages(name: str) -> None:
    setup = make_workload(f"{name}:wss=4MiB,huge=1,init=0", 5).setup()
    assert setup["kind"].tolist() == [MMAP_HUGE]
    assert setup["value"].tolist() == [1024]


def test_writes_store_values_of_their_own() -> None:
    values = writes(operations(f"uniform:{WSS},writes=1"))["value"]
    assert len(set(values.tolist())) == len(values)
