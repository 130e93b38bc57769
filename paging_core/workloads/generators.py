"""Workloads made of patterns: a pure function of parameters, seed and position each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from paging_core.units import FRAME_BYTES, FRAME_SHIFT, WORDS_PER_FRAME
from paging_core.workloads import patterns
from paging_core.workloads.churn import Churn, fill_churn
from paging_core.workloads.files import Files, file_setup, fill_files
from paging_core.workloads.ops import FILE_WRITE, IDLE, MMAP, MMAP_HUGE, OP_DTYPE, WRITE, Ops
from paging_core.workloads.pacing import Fill, Pace, fill_paced, pace_of
from paging_core.workloads.parameters import Settings, part_of
from paging_core.workloads.randomness import fill_draws, in_units, key_of
from paging_core.workloads.records import Rows, Shape, as_rows, tail_of
from paging_core.workloads.switches import Turns, fill_switches, first_page_of, setup_of
from paging_core.workloads.zipf import EXPONENT_ONE, alias_table, fill_zipf


class Generator:
    """A workload that fills rows by a pattern, at a pace, after a set-up.

    Attributes:
        spec: canonical, with every parameter.
    """

    def __init__(self, spec: str, setup: Ops, pace: Pace, fill: Fill) -> None:
        self.spec = spec
        self._setup = setup
        self._pace = pace
        self._fill = fill

    def setup(self) -> Ops:
        """Map the working set and put data there."""
        return self._setup

    def fill(self, position: int, ops: Ops) -> None:
        """The operations from `position` on; the same ones however they are cut in pieces."""
        fill_paced(self._pace, self._fill, position, as_rows(ops))


def map_ops(first_page: int, pages: int, key: int, *, huge: bool, init: bool) -> Ops:
    """Operations that map a run of pages and, with `init`, write all of every page once."""
    written = pages if init else 0
    ops = np.zeros(1 + written, OP_DTYPE)
    kind = MMAP_HUGE if huge else MMAP
    ops[0] = (first_page << FRAME_SHIFT, pages, 0, 0, kind, 0)
    if init:
        values = np.empty(pages, np.int64)
        fill_draws(key, first_page, values)
        ops["address"][1:] = (first_page + np.arange(pages)) << FRAME_SHIFT
        ops["value"][1:] = values
        ops["words"][1:] = WORDS_PER_FRAME
        ops["kind"][1:] = WRITE
    return ops


def _pages(settings: Settings, name: str = "wss") -> int:
    return int(settings[name]) // FRAME_BYTES


def _sequential(settings: Settings, shape: Shape, _seed: int) -> Fill:
    return partial(patterns.fill_sequential, shape, _pages(settings))


def _uniform(settings: Settings, shape: Shape, _seed: int) -> Fill:
    return partial(patterns.fill_uniform, shape, _pages(settings))


def _zipf(settings: Settings, shape: Shape, seed: int) -> Fill:
    exponent = round(float(settings["s"]) * EXPONENT_ONE)
    key = key_of(seed, "zipf order")
    table = alias_table(_pages(settings), exponent, int(settings["scatter"]), key)
    return partial(fill_zipf, shape, table)


def _hotcold(settings: Settings, shape: Shape, _seed: int) -> Fill:
    pages = _pages(settings)
    hot_pages = part_of(pages, float(settings["hot"]))
    # With nothing cold, every access is hot.
    units = in_units(float(settings["hot_accesses"]) if hot_pages < pages else 1.0)
    return partial(patterns.fill_hotcold, shape, pages, hot_pages, units)


def _strided(settings: Settings, shape: Shape, _seed: int) -> Fill:
    return partial(patterns.fill_strided, shape, int(settings["wss"]), int(settings["stride"]))


def _phased(settings: Settings, shape: Shape, _seed: int) -> Fill:
    pages = _pages(settings)
    phases = min(pages, int(settings["phases"]))
    return partial(patterns.fill_phased, shape, pages, phases, int(settings["phase_ops"]))


def _read_mostly(settings: Settings, shape: Shape, _seed: int) -> Fill:
    pages = _pages(settings)
    written_pages = part_of(pages, float(settings["written"]))
    return partial(patterns.fill_read_mostly, shape, pages, written_pages)


def _churn(settings: Settings, shape: Shape, _seed: int) -> Fill:
    region_pages = _pages(settings, "region")
    counts = Churn(
        _pages(settings), region_pages, int(settings["fork_every"]), int(settings["children"])
    )
    return partial(fill_churn, shape, counts)


def _switches(settings: Settings, shape: Shape, _seed: int) -> Fill:
    turns = Turns(_pages(settings), int(settings["processes"]), int(settings["switch_every"]))
    return partial(fill_switches, shape, turns)


def _files(settings: Settings, shape: Shape, _seed: int) -> Fill:
    shares = [float(settings[key]) for key in ("shared", "private", "calls")]
    up_to = [in_units(min(1.0, sum(shares[: i + 1]))) for i in range(3)]
    every, pages = int(settings["sync_every"]), _pages(settings)
    return partial(fill_files, shape, Files(pages, _pages(settings, "file"), every, *up_to))


_PATTERNS: dict[str, Callable[[Settings, Shape, int], Fill]] = {
    "sequential": _sequential,
    "uniform": _uniform,
    "zipf": _zipf,
    "hotcold": _hotcold,
    "strided": _strided,
    "phased": _phased,
    "read-mostly": _read_mostly,
    "churn": _churn,
    "switches": _switches,
    "files": _files,
}


def _fill_idle(tick_ns: int, _position: int, rows: Rows) -> None:
    rows[:] = (0, tick_ns, tail_of(0, kind=IDLE))


def make_idle(spec: str, settings: Settings, seed: int) -> Generator:
    """A guest that only waits."""
    setup = np.zeros(0, OP_DTYPE)
    if settings["wss"]:
        setup = _setup(settings, seed)
    return Generator(spec, setup, Pace(0), partial(_fill_idle, int(settings["tick"])))


def _setup(settings: Settings, seed: int) -> Ops:
    key = key_of(seed, "initial content")
    huge, init = bool(settings.get("huge", 0)), bool(settings["init"])
    firsts = [first_page_of(process) for process in range(int(settings.get("processes", 1)))]
    parts = [map_ops(first, _pages(settings), key, huge=huge, init=init) for first in firsts]
    if "file" in settings:
        parts[0] = np.concatenate([parts[0], _file_setup(settings, key)])
    return parts[0] if len(parts) == 1 else setup_of(parts)


def _file_setup(settings: Settings, key: int) -> Ops:
    pages = _pages(settings, "file")
    written = map_ops(0, pages, key, huge=False, init=bool(settings["init"]))[1:]
    written["kind"] = FILE_WRITE
    return file_setup(pages, written)


def make_generator(name: str, spec: str, settings: Settings, seed: int) -> Generator:
    """The generator of a name that the catalog knows.

    Args:
        name: of the workload.
        spec: its canonical spec.
        settings: every parameter.
        seed: of its random sequences.
    """
    if name == "idle":
        return make_idle(spec, settings, seed)
    write_fraction = float(settings["writes"])
    pace = pace_of(float(settings["write_rate"]), write_fraction)
    words = int(settings["words"])
    shape = Shape(
        key=key_of(seed, "accesses"),
        write_units=in_units(write_fraction),
        silent_units=in_units(float(settings["silent"])),
        words=words,
        tail=tail_of(pace.gap_ps, words),
    )
    return Generator(spec, _setup(settings, seed), pace, _PATTERNS[name](settings, shape, seed))
