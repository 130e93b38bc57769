"""`pageferry trace`: memory traces of real programs."""

from __future__ import annotations

import click

from pageferry.cli.json_target import json_option
from pageferry.cli.kinds import COUNT
from pageferry.cli.trace_formats import FORMATS


@click.group(
    epilog="""\b
Record a program, look at what was recorded, migrate a guest that replays it:
  valgrind --tool=lackey --trace-mem=yes --log-file=ls.txt ls -l
  pageferry trace import lackey ls.txt --out ls.parquet
  pageferry trace show ls.parquet
  pageferry migrate --trace ls.parquet --memory 8MiB
"""
)
def trace() -> None:
    """Import, merge and show memory traces of real programs."""


@trace.group("import")
def import_() -> None:
    """Turn what a tracing tool wrote into a trace that a guest can replay.

    Each command is a format; docs/traces.md has the columns of each.
    """


@import_.command(
    epilog="""\b
A file, or a pipe, so that the text (14 bytes per access) never lies on a disk:
  pageferry trace import lackey ls.txt --out ls.parquet
  valgrind --tool=lackey --trace-mem=yes --log-fd=9 ls -l 9>&1 >/dev/null \\
      | pageferry trace import lackey - --out ls.parquet
"""
)
@click.argument("file", type=click.Path(), metavar="FILE|-")
@click.option(
    "--out", required=True, metavar="TRACE.parquet", type=click.Path(), help="The trace to write."
)
@click.option("--force", is_flag=True, help="Replace the trace if it is there.")
@click.option(
    "--command",
    metavar="TEXT",
    help="What was traced.  [default: what Valgrind says in its own lines]",
)
@click.option(
    "--window",
    type=COUNT,
    metavar="COUNT",
    default=None,
    help="Collapse a page's accesses within so many instructions; smaller is finer and larger.  "
    "[default: 100k, or what 4 ms hold]",
)
@click.option(
    "--instructions-per-second",
    type=COUNT,
    metavar="COUNT",
    default=None,
    help="How fast a guest replays it; a server that mostly waits executes few.  [default: 1G]",
)
@click.option(
    "--pace",
    type=COUNT,
    metavar="COUNT",
    default=None,
    help="Accesses per second instead, of a text without instructions (lines of I): time is "
    "counted in accesses.",
)
def lackey(
    file: str,
    out: str,
    force: bool,
    command: str | None,
    window: int | None,
    instructions_per_second: int | None,
    pace: int | None,
) -> None:
    """Read the output of Valgrind's lackey tool (--trace-mem=yes); - is stdin.

    It is read as a stream, of any size, into page-level accesses over instruction time:
    per window of instructions, one row for all reads of a page and one for all writes. A text
    that is compressed is named as such, with the command that streams it in here.
    """
    from pageferry.cli.trace_import import import_file
    from paging_core.traces.lackey import ImportOptions, import_lackey

    options = ImportOptions(command, window, instructions_per_second, pace)
    import_file(
        file, out, lambda s, o, n, p: import_lackey(s, o, options, name=n, progress=p), force=force
    )


for format_ in FORMATS:
    import_.add_command(format_)


@trace.command(
    epilog="""\b
What a program writes, as it runs; what it reads, under Valgrind; both at the same addresses:
  pageferry record --out w.parquet --windows 10ms -- setarch -R sort -n numbers.txt
  setarch -R valgrind --tool=lackey --trace-mem=yes --log-fd=9 sort -n numbers.txt \\
      9>&1 >/dev/null | pageferry trace import lackey - --out r.parquet
  pageferry trace merge w.parquet r.parquet --time stretched --out both.parquet
  pageferry migrate --trace both.parquet --paging shadow
"""
)
@click.argument("written", type=click.Path(), metavar="WRITTEN")
@click.argument("reads", type=click.Path(), metavar="READS")
@click.option(
    "--out", required=True, metavar="TRACE.parquet", type=click.Path(), help="The trace to write."
)
@click.option("--force", is_flag=True, help="Replace the trace if it is there.")
@click.option(
    "--time",
    type=click.Choice(["same", "stretched"]),
    default="same",
    show_default=True,
    help="Both begin together; stretched spreads READS over the time of WRITTEN, such as "
    "instructions over seconds.",
)
@click.option(
    "--least-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Of the written pages so many have to be touched in READS, or the two do not fit.",
)
def merge(written: str, reads: str, out: str, force: bool, time: str, least_share: float) -> None:
    """Merge what was read from a second source into a trace of written pages.

    WRITTEN says what was written and when. READS, a trace of accesses (lackey, drmemtrace) or of
    pages read in windows (damon --count-as read, pages), adds what was read, so that the result can
    be replayed under shadow paging. Of a page that is both in a window the read comes first, unless
    READS knows that it was written before. docs/traces.md has the rules.
    """
    from pageferry.cli.trace_import import checked_target, say
    from paging_core.traces.merging import merge_reads

    target = checked_target(out, force=force)
    made = merge_reads(
        written, reads, target, stretched=time == "stretched", least_share=least_share
    )
    say(target, made.description)
    click.echo(
        f"{made.reads:,} reads of pages; {made.behind_writes:,} left out that came after a write "
        f"in their window; {made.share:.0%} of the written pages are touched in {reads}"
    )


@trace.command()
@click.argument("file", type=click.Path(), metavar="FILE")
@json_option
def show(file: str, json_target: str | None) -> None:
    """Show what a trace holds: how long, how much memory, which parts of it are written.

    Of written pages also how fast, how densely, and how many writes changed nothing.

    Reads all of it, so a trace that is shown can be replayed.
    """
    from pageferry.cli import trace_json, trace_show, written_show
    from pageferry.cli.json_target import check, written
    from paging_core.traces.opening import open_trace
    from paging_core.traces.profile import profile
    from paging_core.traces.reader import TraceFile

    check(json_target)
    opened = open_trace(file)
    if isinstance(opened, TraceFile):
        found = profile(opened)
        document = trace_json.document_of(opened, found)
        tables = trace_show.facts(opened, found), trace_show.regions(found)
    else:
        shown = written_show.examined(opened)
        document = written_show.document_of(shown)
        tables = written_show.facts(shown), written_show.regions(shown)
    console = written(document, json_target)
    console.print(tables[0])
    console.print()
    console.print(tables[1])
