"""What docs/answer.md needs of a sweep's runs, and how one of them is found.

The rows are kept in examples/answer.parquet, so that the page can be computed again from them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pageferry.sweep.settings import BY_NAME
from paging_core.units import FRAME_BYTES
from paging_core.workloads.catalog import parse_spec
from paging_core.workloads.dirty_rate import PATTERNS

Row = Mapping[str, Any]
_BITS = 8
SHARES = ("0.1", "0.5", "0.9", "1.5")
"""Of the link: dirty rates that the grids ask for."""
LOADS = (
    "read-mostly 0.1", "uniform 0.1", "zipf 0.5", "strided 0.5", "uniform 0.5", "uniform 0.9",
    "zipf 1.5", "uniform 1.5", "sequential 1.5", "churn", "redis", "sqlite",
)  # fmt: skip
"""In the order of the page; recorded programs after these."""
LINKS = ("300 Mbit/s", "1 Gbit/s", "10 Gbit/s")
TYPICAL = "typical"
AGAINST = "costs-against-groups"
"""Prices of examples/costs-against-groups.toml: within their intervals, those against groups."""
SINGLE, GROUPS, KEPT, PML = "n = 1", "n = 64", "n = 1, write-protect", "PML"


@dataclass(frozen=True)
class Run:
    """A migration: what was asked, and what the page says of it.

    Attributes:
        load: its pattern and dirty rate as a share of the link, or the name of its recording.
        memory, link: as on the page, such as `64 MiB` and `1 Gbit/s`.
        hypervisor, paging, suppress, variant, seed: as in the sweep's table.
        costs: `TYPICAL`, `low`, `high` or `AGAINST`.
        recorded: written pages of a program or a machine that ran at its own speed.
        overhead, overhead_low, overhead_high: percent, at the prices of the run and at their ends.
        fixups, rebuilding: shares of the tracking time; rebuilding includes teardown.
        dirty: distinct pages written in round 1 as bytes a second, ÷ the link.
        density: frames written of a touched group of 64; None where nothing was.
        wire_bytes, downtime_s, rounds: of the migration.
    """

    load: str
    memory: str
    link: str
    hypervisor: str
    paging: str
    suppress: bool
    variant: str
    seed: int
    costs: str
    recorded: bool
    overhead: float
    overhead_low: float
    overhead_high: float
    fixups: float
    rebuilding: float
    dirty: float
    density: float | None
    wire_bytes: int
    downtime_s: float
    rounds: int

    @property
    def ends(self) -> tuple[float, float, float]:
        """Overhead in percent: typical, all prices low, all high."""
        return (self.overhead, self.overhead_low, self.overhead_high)


_ASKED = tuple(field.name for field in fields(Run))[:9]


def run_of(row: Row) -> Run:
    """Of a row of `pageferry.report.variants.compared`."""
    rounds = json.loads(row["document"])["rounds"]
    first = rounds[0]
    dirty = first["written"] * FRAME_BYTES * _BITS / first["duration_s"] / row["link_bits_per_s"]
    memory, link = (
        BY_NAME[name].show(row[name]).removesuffix(" of memory").removesuffix(" link")
        for name in ("memory_bytes", "link_bits_per_s")
    )
    costs = _costs(row["command"])
    return Run(
        _load(row), memory, link, row["hypervisor"], row["paging"], row["suppress"],
        row["variant"], row["seed"], costs, bool(row["trace"]) and row["load"] not in LOADS,
        row["overhead_percent"], row["overhead_low_percent"], row["overhead_high_percent"],
        _share(row, "fixup"), _share(row, "rebuild", "teardown"), dirty, row["density_64"],
        row["bytes_wire"], row["downtime_s"], len(rounds),
    )  # fmt: skip


def _costs(command: str) -> str:
    """Of a run's prices, how the page calls them: a table of one's own stands for the typical."""
    words = shlex.split(command)
    given = Path(words[words.index("--costs") + 1]).stem if "--costs" in words else TYPICAL
    return given if given in ("low", "high", AGAINST) else TYPICAL


def _share(row: Row, *causes: str) -> float:
    """Of the tracking time, what some causes took."""
    return float(sum(row[f"time_{cause}_ns"] for cause in causes) / max(1, row["tracking_ns"]))


def _load(row: Row) -> str:
    asked = "" if row["trace"] else _asked(row)
    return f"{row['load']} {asked}".strip()


def _asked(row: Row) -> str:
    """The dirty rate that a load was given, as a share of the link."""
    info, settings = parse_spec(row["workload"])
    for asked in SHARES if info.name in PATTERNS else ():
        spec = f"{info.name}:wss={settings['wss']},dirty={asked}link"
        if parse_spec(spec, row["link_bits_per_s"])[1]["write_rate"] == settings["write_rate"]:
            return asked
    return ""


class Runs:
    """All of a sweep's, by what was asked."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """Those that completed; of two that were asked for the same, the later one."""
        asked = {tuple(getattr(run, name) for name in _ASKED): run for run in runs}
        self._all = list(asked.values())
        self._by_asked = asked

    def __iter__(self) -> Iterator[Run]:
        return iter(self._all)

    def like(self, run: Run, **other: Any) -> Run | None:
        """The run that was asked for the same as another one, but for some settings."""
        asked = replace(run, **other)
        return self._by_asked.get(tuple(getattr(asked, name) for name in _ASKED))

    def singles(self, **asked: Any) -> list[Run]:
        """Runs with single pages, seed 0 and typical prices, in the order of the page."""
        wanted = {"variant": SINGLE, "seed": 0, "costs": TYPICAL, **asked}
        found = [r for r in self._all if all(getattr(r, k) == v for k, v in wanted.items())]
        return sorted(found, key=_place)

    def seeds(self, run: Run) -> list[Run]:
        """The same with every seed that was run."""
        found = (self.like(run, seed=seed) for seed in sorted({each.seed for each in self._all}))
        return [each for each in found if each is not None]


def _place(run: Run) -> tuple[Any, ...]:
    number, unit = run.memory.split()
    generated = LOADS.index(run.load) if run.load in LOADS else len(LOADS)
    return (run.recorded, unit, int(number), generated, run.load, run.link)


def read(kept: Path) -> Runs:
    """What `write` kept."""
    return Runs(Run(**row) for row in pq.read_table(kept).to_pylist())


def write(runs: Iterable[Run], kept: Path) -> None:
    """Keep what the page needs."""
    rows: Sequence[dict[str, Any]] = [asdict(run) for run in runs]
    pq.write_table(pa.Table.from_pylist(rows), kept, compression="zstd")
