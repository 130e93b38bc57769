"""Run a sweep for `pageferry sweep`: combinations checked first, progress, a closing summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pageferry.cli.axes import command_of, options_of
from pageferry.cli.output import stderr_console
from pageferry.cli.shell import EXIT_FAILED, EXIT_THRESHOLD, complain
from pageferry.interrupts import Interrupted, Interrupts
from pageferry.sweep import run_points
from pageferry.sweep.cluster import ClusterWorkers
from pageferry.sweep.directory import RESULTS, SweepDirectory, opened
from pageferry.sweep.grid import Grid, Settings
from pageferry.sweep.point import Point
from pageferry.sweep.table import Row
from pageferry.sweep.workers import LocalWorkers, Workers
from pageferry.thresholds import Threshold
from pageferry.thresholds import failed as exceeded
from paging_core.errors import BadOption, InvalidInput

_LINE_EVERY = 10
"""Points between two lines of progress where nothing can be redrawn."""


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is to be run.

    Attributes:
        directory: where results go.
        jobs: processes on this machine.
        scheduler: address of a Dask scheduler instead of those; None for none.
        retry_failed: run failed points again.
        quiet: no progress.
        command: as it was typed.
        thresholds: what no result may fulfil.
    """

    directory: Path
    jobs: int
    scheduler: str | None
    retry_failed: bool
    quiet: bool
    command: str = ""
    thresholds: Sequence[Threshold] = ()


def points_of(grids: Sequence[Grid], base: Path) -> list[Point]:
    """Every point of every grid, each checked.

    Raises:
        BadOption: a combination that cannot be, by name.
    """
    return [_point(grid, settings, base) for grid in grids for settings in grid.combinations()]


def _point(grid: Grid, settings: Settings, base: Path) -> Point:
    try:
        return Point(options_of(settings, base), command_of(settings, base), grid.flow)
    except InvalidInput as error:
        combination = ", ".join(f"{axis} = {value}" for axis, value in settings.items())
        raise BadOption(f"{grid.name}: {combination} cannot be: {error}") from error


def show_points(grids: Sequence[Grid], base: Path) -> None:
    """List what would be run."""
    points = {point.id: point for point in points_of(grids, base)}
    for point in points.values():
        click.echo(point.command)
    stderr_console().print(f"{len(points)} points")


def run_sweep(grids: Sequence[Grid], options: SweepOptions) -> int:
    """Run what is not finished yet; the exit code of the command.

    Raises:
        InvalidInput: something asked for cannot be; nothing was run.
        PageferryError: the disk is full, or the workers are gone.
    """
    points = points_of(grids, Path.cwd())
    if options.scheduler is not None and any(point.flow for point in points):
        raise BadOption("flows are written on this machine; drop flow, or drop --scheduler")
    console = stderr_console()
    with Interrupts(), opened(options.directory, options.command) as directory:
        todo = run_points.unfinished(points, directory, retry_failed=options.retry_failed)
        n_points = len({point.id for point in points})
        try:
            failed = _run(todo, n_points, directory, options, console)
        except Interrupted as interrupted:
            complain("stopped; finished points are kept, the same command goes on from here")
            return interrupted.exit_code
        if not options.quiet:
            _print_summary(console, n_points, len(todo), failed, directory)
        beyond = _beyond(directory.rows({point.id: point for point in points}.values()), options)
    if beyond:
        complain(beyond)
    if failed:
        return EXIT_FAILED
    return EXIT_THRESHOLD if beyond else 0


def _beyond(rows: Sequence[Row], options: SweepOptions) -> str:
    """A line about the points that fulfil a condition of --fail-if; empty if none does.

    Points that ran before this command count as well; those that failed have no result.
    """
    if not options.thresholds:
        return ""
    judged = [row for row in rows if row["status"] == "ok"]
    found = [
        (row, list(exceeded(options.thresholds, json.loads(row["document"])))) for row in judged
    ]
    found = [(row, lines) for row, lines in found if lines]
    if not found:
        return ""
    first, lines = found[0]
    return (
        f"{len(found)} of {len(judged)} points are beyond a limit, the first is "
        f"{first['command']}: {'; '.join(lines)}"
    )


def _run(
    todo: Sequence[Point],
    n_points: int,
    directory: SweepDirectory,
    options: SweepOptions,
    console: Console,
) -> int:
    """Run points with progress; how many failed."""
    failed: list[Row] = []
    with ExitStack() as stack:
        workers: Workers = LocalWorkers(options.jobs)
        if options.scheduler is not None:
            workers = stack.enter_context(ClusterWorkers(options.scheduler))
        advance = stack.enter_context(_progress(console, n_points, len(todo), options))

        def told(row: Row) -> None:
            if row["status"] == "failed":
                failed.append(row)
                console.print(f"failed: {row['command']}: {row['error']}", markup=False,
                              soft_wrap=True)  # fmt: skip
            advance()

        run_points.run(todo, directory, workers, told)
    return len(failed)


@contextmanager
def _progress(
    console: Console, total: int, todo: int, options: SweepOptions
) -> Iterator[Callable[[], None]]:
    if options.quiet:
        yield lambda: None
    elif not console.is_terminal:
        yield _Lines(console, total, total - todo)
    else:
        columns = (TextColumn("migrating"), BarColumn(), MofNCompleteColumn(),
                   TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=console, transient=True) as shown:
            task = shown.add_task("", total=total, completed=total - todo)
            yield lambda: shown.advance(task)


class _Lines:
    """Progress where nothing can be redrawn."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console, self._total, self._done = console, total, done

    def __call__(self) -> None:
        self._done += 1
        if self._done % _LINE_EVERY == 0 or self._done == self._total:
            self._console.print(f"{self._done} of {self._total} points")


def _print_summary(
    console: Console, n_points: int, run: int, failed: int, directory: SweepDirectory
) -> None:
    before = f", {n_points - run} finished before" if run < n_points else ""
    bad = f", {failed} failed" if failed else ""
    where = directory.path / RESULTS
    console.print(f"{run} points run{bad}{before}; results in {where}", markup=False,
                  soft_wrap=True)  # fmt: skip
    console.print(f"pageferry report {directory.path} draws them", markup=False, soft_wrap=True)
