"""Adaptive groups against every fixed size: fixup faults and bytes, relative to n = 1.

    python -m bench.adaptive [--no-suppress] [--d-bit-filter] [--link 200Mbit/s]
                             [--memory 64MiB] [--loads hotcold,redis]

Every shipped workload at its defaults and the two traces of real programs, migrated whole and
verified, under shadow blow, shadow write-protect and HAP lazy: 216 migrations of a 64 MiB
guest, three to five minutes on two cores. docs/adaptive.md shows and discusses the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

from pageferry.cli.axes import command_of, options_of
from pageferry.sweep import run_points
from pageferry.sweep.directory import opened
from pageferry.sweep.grid import Grid, Value
from pageferry.sweep.point import Point
from pageferry.sweep.workers import LocalWorkers
from paging_core.workloads.catalog import describe_workloads

ADAPTIVE = 0
"""As the table of a sweep writes adaptive."""
SIZES = (4, 16, 64, 256, ADAPTIVE)
TRACES = Path(__file__).parent.parent / "examples" / "traces"
PROGRAMS = ("redis", "sqlite")
"""Traces of accesses: shadow paging cannot replay those of written pages."""
TRACKERS = (("shadow", "blow"), ("shadow", "write-protect"), ("hap", "lazy"))

Row = dict[str, Any]


def loads(chosen: Sequence[str]) -> dict[str, list[Value]]:
    """Axes of what guests run: all that there is, or what was chosen of it by name."""
    traces = {name: str(TRACES / f"{name}.parquet") for name in PROGRAMS}
    workloads = [info.name for info in describe_workloads()]
    if unknown := set(chosen) - {*workloads, *traces}:
        sys.exit(f"error: no load {', '.join(sorted(unknown))}")
    axes: dict[str, list[Value]] = {
        "workload": [name for name in workloads if name in chosen or not chosen],
        "trace": [path for name, path in traces.items() if name in chosen or not chosen],
    }
    return {axis: values for axis, values in axes.items() if values}


def points(options: argparse.Namespace) -> list[Point]:
    """Every load under every tracker with every size."""
    here = Path.cwd()
    same: dict[str, list[Value]] = {
        "memory": [options.memory],
        "link": [options.link],
        "suppress": [not options.no_suppress],
        "d_bit_filter": [options.d_bit_filter],
        "group_pages": [1, *(size or "adaptive" for size in SIZES)],
    }
    run = loads([name for name in options.loads.split(",") if name])
    made = []
    for paging, clean in TRACKERS:
        grid = Grid("bench", {**run, **same, "paging": [paging], "clean": [clean]})
        made += [Point(options_of(s, here), command_of(s, here)) for s in grid.combinations()]
    return made


def results(chosen: Sequence[Point]) -> list[Row]:
    """What the table of a sweep says of these points; all of them verified."""
    with tempfile.TemporaryDirectory() as place, opened(Path(place) / "sweep") as directory:
        run_points.run(chosen, directory, LocalWorkers(os.cpu_count() or 1), lambda _row: None)
        rows: list[Row] = directory.read_table().to_pylist()
    if len(rows) != len(chosen) or any(not row["verified"] for row in rows):
        sys.exit("error: not every migration completed and was verified")
    return rows


def figure(rows: Sequence[Row], size: int, measure: str) -> int:
    """A measure of the one migration of a load with groups of this size."""
    (row,) = (row for row in rows if row["group_pages"] == size)
    return int(row[measure])


def ratio(rows: Sequence[Row], size: int, measure: str) -> float:
    """A load's measure to that of n = 1; not a number where there was nothing to begin with."""
    single = figure(rows, 1, measure)
    return figure(rows, size, measure) / single if single else nan


def cell(faults: float, wire_bytes: float) -> str:
    """Fixup faults × n = 1, and bytes beyond those of n = 1."""
    of_faults = f"{faults:8.3f}" if not isnan(faults) else f"{'–':>8}"
    return f"{of_faults} {100 * (wire_bytes - 1):+6.1f}%"


def show_tracker(rows: Sequence[Row], paging: str, clean: str) -> None:
    """The table of one tracker: a line for each load, then the middle and the worst of the loads.

    Loads are never added up: a sum would be the answer of the load that writes most. One without
    fixup faults has no ratio and stays out of those two lines.
    """
    mine = [row for row in rows if (row["paging"], row["clean"]) == (paging, clean)]
    of_loads = [
        [row for row in mine if row["load"] == load]
        for load in dict.fromkeys(row["load"] for row in mine)
    ]
    sizes = "".join(f"{size or 'adaptive':>16}" for size in SIZES)
    print(f"\n{f'{paging}, {clean}':<22}{'n = 1':>8}{sizes}")
    for load in of_loads:
        cells = (
            cell(ratio(load, size, "faults_fixup"), ratio(load, size, "bytes_wire"))
            for size in SIZES
        )
        print(f"{load[0]['load']:<22}{figure(load, 1, 'faults_fixup'):>8}" + "".join(cells))
    faulting = [load for load in of_loads if figure(load, 1, "faults_fixup")] or of_loads
    for name, of in (("median of the loads", median), ("most of any load", max)):
        cells = (
            cell(
                of([ratio(load, size, "faults_fixup") for load in faulting]),
                of([ratio(load, size, "bytes_wire") for load in faulting]),
            )
            for size in SIZES
        )
        print(f"{name:<30}" + "".join(cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--link", default="1Gbit/s")
    parser.add_argument("--no-suppress", action="store_true")
    parser.add_argument("--d-bit-filter", action="store_true")
    parser.add_argument("--memory", default="64MiB")
    parser.add_argument("--loads", default="", help="workloads and traces by name (default all)")
    rows = results(points(parser.parse_args(arguments)))
    print("adaptive groups: fixup faults × n = 1, and bytes on the wire beyond those of n = 1")
    for paging, clean in TRACKERS:
        show_tracker(rows, paging, clean)
    return 0


if __name__ == "__main__":
    sys.exit(main())
