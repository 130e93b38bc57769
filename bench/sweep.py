"""How many points a sweep finishes: per minute and core, and on two cores against one.

    python -m bench.sweep [--points 24] [--runs 3]

Points are migrations of a 64 MiB guest with 10 pre-copy rounds, content verified, under shadow
and HAP, one page at a time and in groups. The start of the workers is part of the time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pageferry.cli.axes import command_of, options_of
from pageferry.sweep import run_points
from pageferry.sweep.directory import opened
from pageferry.sweep.grid import Grid
from pageferry.sweep.point import Point
from pageferry.sweep.workers import LocalWorkers

ROUNDS = 10


def points(count: int) -> list[Point]:
    """So many different points of the size that is measured."""
    grid = Grid(
        "bench",
        {
            "seed": list(range(-(-count // 8))),
            "memory": ["64MiB"],
            "workload": ["uniform:wss=16MiB", "hotcold"],
            "paging": ["shadow", "hap"],
            "group_pages": [1, 16],
            "policy": ["xen-2009"],
            "max_rounds": [ROUNDS],
        },
    )
    here = Path.cwd()
    made = [Point(options_of(s, here), command_of(s, here)) for s in grid.combinations()]
    return made[:count]


def points_per_minute(count: int, jobs: int) -> float:
    """Of one sweep from nothing."""
    with tempfile.TemporaryDirectory() as place, opened(Path(place) / "sweep") as directory:
        started = time.perf_counter()
        run_points.run(points(count), directory, LocalWorkers(jobs), lambda _row: None)
        elapsed_s = time.perf_counter() - started
        rows = directory.read_table().to_pylist()
    if any(not row["verified"] or row["rounds"] != ROUNDS + 1 for row in rows):
        sys.exit(f"error: not every point was verified after {ROUNDS} rounds")
    return 60 * count / elapsed_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    one, two = [], []
    for _ in range(options.runs):
        one.append(points_per_minute(options.points, 1))
        two.append(points_per_minute(options.points, 2))
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    print(f"sweep: 64 MiB, {ROUNDS} rounds, verified; {options.points} points, medians")
    print(f"{'':24}{'points/min':>12}{'per core':>10}{'× one core':>12}")
    print(f"{'one worker':24}{statistics.median(one):12.0f}{statistics.median(one):10.0f}{1:12.2f}")
    print(
        f"{'two workers':24}{statistics.median(two):12.0f}{statistics.median(two) / 2:10.0f}"
        f"{statistics.median(ratios):12.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
