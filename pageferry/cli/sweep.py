"""`pageferry sweep`: many migrations, one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from pageferry.cli.limits import fail_if, thresholds
from pageferry.cli.sections import SectionedCommand, section
from pageferry.settings import AXES
from pageferry.sweep.grid import Grid, Value
from paging_core.kinds import Choice, Flag, Text
from paging_core.settings import Setting


def _may_hold_commas(setting: Setting) -> bool:
    """Whether its values are given once each, and not as a list."""
    return isinstance(setting.kind, Text)


def _axis_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each axis."""
    for axis, setting in reversed(list(AXES.items())):
        decorate = click.option(
            f"--{axis.replace('_', '-')}",
            axis,
            multiple=True,
            metavar="VALUE" if _may_hold_commas(setting) else "LIST",
            help=_help(setting),
        )
        function = decorate(function)
    return section("Axes: settings of pageferry migrate, each with one value or several")(function)


def _help(setting: Setting) -> str:
    if isinstance(setting.kind, Flag):
        return "true, false, or true,false."
    if isinstance(setting.kind, Choice):
        return f"Of {', '.join(setting.kind.of)}."
    if _may_hold_commas(setting):
        return "Give it once for each value."
    return "Values with commas between them."


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  pageferry sweep --out out/groups --group-pages 1,4,16,64,256,1024 --paging shadow,hap
  pageferry sweep examples/answer.toml --out out/answer
  pageferry sweep examples/answer.toml --out out/answer --scheduler tcp://head:8786
  pageferry sweep examples/answer.toml --out out/answer --quiet --fail-if "overhead > 2%"
\b
A grid file:
  memory = "64MiB"
  workload = ["hotcold", "zipf:wss=32MiB"]
  [[grid]]
  paging = "shadow"
  clean = ["blow", "write-protect"]
  group_pages = [1, 16, 64]
  [[grid]]
  paging = "hap"
  pml = true
\b
Exit code: 0 every point completed; 1 some failed, or the sweep could not go on; 2 an option cannot
be, nothing was run; 3 all completed, and --fail-if found something; 130 stopped by Ctrl-C.
""",
)
@click.argument("grid_file", metavar="[GRID.toml]", required=False, type=click.Path())
@click.option(
    "--out",
    "directory",
    metavar="DIR",
    required=True,
    type=click.Path(),
    help="Where results go; the same again goes on where an earlier run was stopped.",
)
@_axis_options
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    metavar="N",
    default=None,
    help="Migrations at a time on this machine.  [default: one for each core]",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    default=None,
    help="Run on the workers of this Dask scheduler instead, such as tcp://head:8786.",
)
@click.option("--retry-failed", is_flag=True, help="Run points again that failed before.")
@click.option("--dry-run", is_flag=True, help="Check the grid, list its points, run nothing.")
@fail_if
@click.option("--quiet", is_flag=True, help="No progress; errors remain.")
@click.pass_context
def sweep(
    ctx: click.Context,
    /,
    grid_file: str | None,
    directory: str,
    jobs: int | None,
    scheduler: str | None,
    retry_failed: bool,
    dry_run: bool,
    quiet: bool,
    fail_if: tuple[str, ...],
    **given: tuple[str, ...],
) -> None:
    """Run a migration for every combination of settings, on the virtual clock.

    Axes are the options of pageferry migrate (group_pages for --group-pages; suppress = false
    for --no-suppress), from a grid file or from the options below, which replace those of the
    file. Combinations that cannot be are named before anything runs. Points run side by side,
    each whole and verified; Ctrl-C stops, and the same command goes on. Ends with
    DIR/results.parquet, one row for each point; pageferry report DIR draws it.
    """
    if scheduler is not None and jobs is not None:
        raise click.UsageError("--jobs is about this machine; drop it, or drop --scheduler", ctx)
    grids = _grids(grid_file, {axis: _split(axis, values) for axis, values in given.items()})
    limits = thresholds(fail_if)
    from pageferry.cli.run_sweep import SweepOptions, run_sweep, show_points
    from pageferry.cli.shell import typed

    if dry_run:
        show_points(grids, Path.cwd())
        return
    options = SweepOptions(
        Path(directory), jobs or os.cpu_count() or 1, scheduler, retry_failed=retry_failed,
        quiet=quiet, command=typed(ctx), thresholds=limits,
    )  # fmt: skip
    ctx.exit(run_sweep(grids, options))


def _grids(file: str | None, given: dict[str, list[Value]]) -> list[Grid]:
    from pageferry.sweep.grid import read_grids

    overrides = {axis: values for axis, values in given.items() if values}
    if file is not None:
        return [grid.overridden(overrides) for grid in read_grids(Path(file), list(AXES))]
    if not overrides:
        raise click.UsageError(
            "an empty sweep: name a GRID.toml, or an axis such as --group-pages 1,64"
        )
    return [Grid("the options", overrides)]


def _split(axis: str, texts: Sequence[str]) -> list[Value]:
    setting = AXES[axis]
    words = texts if _may_hold_commas(setting) else [w for text in texts for w in text.split(",")]
    if not isinstance(setting.kind, Flag):
        return list(words)
    switches = {"true": True, "false": False}
    for word in words:
        if word not in switches:
            raise click.BadParameter(f"{word!r} is not true or false", param_hint=f"--{axis}")
    return [switches[word] for word in words]
