"""`pageferry trace import` of everything but lackey's text: pages, bitmaps, DAMON, drmemtrace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pageferry.cli.kinds import COUNT
from paging_core.kinds import Duration
from paging_core.units import parse_size_bytes
from wire.hosting.quantity import Quantity

_SIZE = Quantity("size", parse_size_bytes)
_WINDOW = Quantity("time", Duration("window", "3600s", least_ns=1).parse)


def _target(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the trace goes, and what it says was recorded."""
    for option in (
        click.option("--command", metavar="TEXT", default="", help="What was recorded."),
        click.option("--force", is_flag=True, help="Replace the trace if it is there."),
        click.option(
            "--out",
            required=True,
            metavar="TRACE.parquet",
            type=click.Path(),
            help="The trace to write.",
        ),
    ):
        command = option(command)
    return command


def _pages(command: Callable[..., Any]) -> Callable[..., Any]:
    """What page numbers mean."""
    for option in (
        click.option(
            "--page-size",
            type=_SIZE,
            metavar="SIZE",
            default="4KiB",
            show_default=True,
            help="Of the recorded pages: 4KiB, 64KiB or 2MiB.",
        ),
        click.option(
            "--recorded",
            type=click.Choice(["vm", "process"]),
            default="vm",
            show_default=True,
            help="Pages are guest physical ones (vm) or virtual ones (process).",
        ),
    ):
        command = option(command)
    return command


@click.command(
    epilog="""\b
A CSV, streamed in from anywhere, or a Parquet file with the same columns:
  printf 'time_ns,page,written\\n0,0x1f,w\\n2500,7,r\\n' \\
      | pageferry trace import pages - --out t.parquet
  pageferry trace import pages touched.parquet --window 20ms --out t.parquet
"""
)
@click.argument("file", type=click.Path(), metavar="FILE|-")
@_pages
@click.option(
    "--window",
    "window_ns",
    type=_WINDOW,
    metavar="TIME",
    default="10ms",
    show_default=True,
    help="Collapse touches of a page within windows of this length.",
)
@_target
def pages(
    file: str, page_size: int, recorded: str, window_ns: int, out: str, force: bool, command: str
) -> None:
    """Read pages that were written or read, with the time: CSV or Parquet; - is stdin.

    Columns: time_ns (nanoseconds, ascending; the first is the beginning), page (a page number),
    written (CSV: 1, true, w or write; 0, false, r or read. Parquet: bool).
    """
    from pageferry.cli.trace_import import checked_target, import_file, say
    from paging_core.traces.importing.listing import import_csv, import_parquet
    from paging_core.traces.importing.windows import recording_of
    from paging_core.traces.opened import is_parquet

    recording = recording_of(recorded, page_size, command, "a list of touched pages")
    if file != "-" and is_parquet(file):
        target = checked_target(out, force=force)
        say(target, import_parquet(file, target, recording, window_ns))
        return
    import_file(
        file,
        out,
        lambda s, o, n, p: import_csv(s, o, recording, window_ns, name=n, progress=p),
        force=force,
    )


@click.command(
    epilog="""\b
Eight rounds of 200 ms, a bit for each page of 4 KiB:
  pageferry trace import bitmaps round-*.bin --window 200ms --out vm.parquet
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@_pages
@click.option(
    "--window",
    "window_ns",
    type=_WINDOW,
    metavar="TIME",
    required=True,
    help="How long each round was.",
)
@click.option(
    "--memory",
    type=_SIZE,
    metavar="SIZE",
    default=None,
    help="Of the machine; no bit beyond it may be set.  [default: what the bits cover]",
)
@_target
def bitmaps(
    files: tuple[str, ...],
    page_size: int,
    recorded: str,
    window_ns: int,
    memory: int | None,
    out: str,
    force: bool,
    command: str,
) -> None:
    """Read a series of raw dirty bitmaps, one FILE for each round, in the order given.

    Bit i of byte j, from the least significant one, is page 8 j + i: as KVM, Xen and QEMU have
    them. All of them have one size.
    """
    from pathlib import Path

    from pageferry.cli.trace_import import checked_target, progress, say
    from paging_core.traces.importing.bitmaps import import_bitmaps
    from paging_core.traces.importing.windows import recording_of

    how = f"{len(files)} dirty bitmaps"
    recording = recording_of(recorded, page_size, command, how, memory or 0)
    target = checked_target(out, force=force)
    paths = [Path(file) for file in files]
    with progress("bitmaps", None) as advance:
        made = import_bitmaps(paths, target, recording, window_ns, progress=advance)
    say(target, made)


@click.command(
    epilog="""\b
From a recording of damo's (Linux with DAMON; as root):
  damo report access --raw_form --raw_number \\
      | pageferry trace import damon - --count-as written --recorded process --out p.parquet
"""
)
@click.argument("file", type=click.Path(), metavar="FILE|-")
@click.option(
    "--count-as",
    type=click.Choice(["written", "read"]),
    required=True,
    help="What touched pages count as: DAMON does not tell writes from reads. written is the most "
    "that can be dirty.",
)
@click.option("--target", metavar="ID", default=None, help="Of several targets this one.")
@_pages
@_target
def damon(
    file: str,
    count_as: str,
    target: str | None,
    page_size: int,
    recorded: str,
    out: str,
    force: bool,
    command: str,
) -> None:
    """Read what DAMON saw: damo report access --raw_form (damo report raw); - is stdin.

    A snapshot is a window. All pages of a region with accesses count as touched: DAMON samples
    one page of a region and takes the others to be alike.
    """
    from pageferry.cli.trace_import import import_file
    from paging_core.traces.importing.damon import import_damon
    from paging_core.traces.importing.windows import recording_of

    how = f"DAMON, every touched region counted as {count_as}"
    recording = recording_of(recorded, page_size, command, how)
    written = count_as == "written"
    import_file(
        file,
        out,
        lambda s, o, n, p: import_damon(
            s, o, recording, written=written, target=target, name=n, progress=p
        ),
        force=force,
    )


@click.command(
    epilog="""\b
Record with DynamoRIO, let its view tool print the records, import them:
  drrun -t drmemtrace -offline -- ls -l
  drrun -t drmemtrace -tool view -indir drmemtrace.ls.*.dir 2>&1 \\
      | pageferry trace import drmemtrace - --out ls.parquet
"""
)
@click.argument("file", type=click.Path(), metavar="FILE|-")
@click.option(
    "--window",
    type=COUNT,
    metavar="COUNT",
    default=None,
    help="Collapse a page's accesses within so many instructions.  [default: 100k, or what 4 ms "
    "hold]",
)
@click.option(
    "--instructions-per-second",
    type=COUNT,
    metavar="COUNT",
    default=None,
    help="How fast a guest replays it.  [default: 1G]",
)
@_target
def drmemtrace(
    file: str,
    window: int | None,
    instructions_per_second: int | None,
    out: str,
    force: bool,
    command: str,
) -> None:
    """Read DynamoRIO's drmemtrace as its view tool prints it; - is stdin.

    It has every access in its order, over instruction time, so it becomes the same kind of trace
    as lackey's text.
    """
    from pageferry.cli.trace_import import import_file
    from paging_core.traces.drmemtrace import import_drmemtrace
    from paging_core.traces.lackey import ImportOptions

    options = ImportOptions(command, window, instructions_per_second)
    import_file(
        file,
        out,
        lambda s, o, n, p: import_drmemtrace(s, o, options, name=n, progress=p),
        force=force,
    )


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog="""\b
What is told apart for certain; dirty bitmaps look like anything:
  pageferry trace import auto touched.csv --out vm.parquet
""",
)
@click.argument("file", type=click.Path(), metavar="FILE|-")
@_target
@click.pass_context
def auto(ctx: click.Context, /, file: str, out: str, force: bool, command: str) -> None:
    """Look at the beginning of a FILE and import it as what it is; takes that format's options."""
    from pageferry.cli.trace_import import beginning_of
    from paging_core.traces.importing.detect import format_of

    assert ctx.parent is not None  # noqa: S101 - see `pageferry trace import`
    group = ctx.parent.command
    assert isinstance(group, click.Group)  # noqa: S101 - see above
    name = format_of(beginning_of(file))
    if not name:
        others = ", ".join(sorted(group.commands.keys() - {"auto"}))
        raise click.UsageError(f"nothing says what {file} is; name its format: {others}")
    given = [file, "--out", out, *(["--force"] if force else []), *ctx.args]
    given += ["--command", command] if command else []
    format_ = group.commands[name]
    with format_.make_context(name, given, parent=ctx.parent) as made:
        format_.invoke(made)


FORMATS = (auto, pages, bitmaps, damon, drmemtrace)
