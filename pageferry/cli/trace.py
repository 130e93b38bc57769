"""`pageferry trace`: memory traces of real programs."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def trace() -> None:
    """Import and show memory traces of real programs."""


@trace.group("import")
def import_() -> None:
    """Turn what a tracing tool wrote into a trace that a guest can replay."""


@import_.command(
    epilog="""\b
Example:
  valgrind --tool=lackey --trace-mem=yes --log-file=/dev/stdout -- ls -l \\
      | pageferry trace import lackey - --out ls.parquet
  pageferry migrate --trace ls.parquet
"""
)
@click.argument("file", type=click.Path(), metavar="FILE|-")
@click.option(
    "--out", required=True, metavar="TRACE.parquet", type=click.Path(), help="The trace to write."
)
def lackey(file: str, out: str) -> None:
    """Read the output of Valgrind's lackey tool (--trace-mem=yes); - is stdin.

    It is read as a stream, of any size, into page-level accesses over instruction time.
    """
    from paging_core.traces.lackey import import_lackey

    summary = import_lackey(file, Path(out))
    click.echo(summary)


@trace.command()
@click.argument("file", type=click.Path(), metavar="FILE")
def show(file: str) -> None:
    """Show what a trace holds."""
