"""Run the points of a sweep that are not finished, and write its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from pageferry.request import MigrationOptions
from pageferry.sweep.directory import SweepDirectory
from pageferry.sweep.model import model_digest
from pageferry.sweep.point import Point
from pageferry.sweep.table import Row
from pageferry.sweep.work import Task
from pageferry.sweep.workers import Workers


def unfinished(
    points: Sequence[Point], directory: SweepDirectory, *, retry_failed: bool = False
) -> list[Point]:
    """Those that still have to be run, each of them once."""
    distinct: dict[str, Point] = {}
    for point in points:
        known = distinct.setdefault(point.id, point)
        distinct[point.id] = replace(known, flow=known.flow or point.flow)
    return [
        point
        for point in distinct.values()
        if not directory.finished(point) or (retry_failed and directory.failed(point))
    ]


def run(
    points: Sequence[Point],
    directory: SweepDirectory,
    workers: Workers,
    told: Callable[[Row], None],
) -> None:
    """Run points and keep what became of each; the table is written however this ends.

    Args:
        points: those that are `unfinished`.
        directory: where results go.
        workers: who runs them.
        told: gets every row as it is finished.

    Raises:
        LimitExceeded: the disk is full.
        HostUnreachable: the workers went away.
    """
    model = model_digest()
    for point in points:
        directory.make_way(point)
    tasks = [Task(_with_flow(point, directory), model, point.flow) for point in points]
    try:
        # mypy knows no closing of iterators, but every generator has it.
        with closing(workers.run(tasks)) as results:  # type: ignore[type-var]
            for index, finished in results:
                told(directory.keep(points[index], finished))
    finally:
        directory.write_table()


def _with_flow(point: Point, directory: SweepDirectory) -> MigrationOptions:
    if not point.flow:
        return point.options
    return replace(point.options, flow=str(directory.flow_of(point).resolve()))
