"""`pageferry analyze`: what the flow of faults and pages of a migration says."""

from __future__ import annotations

from pathlib import Path

import click

from pageferry.cli.json_target import json_option


@click.command(
    epilog="""\b
Example:
  pageferry migrate --trace examples/traces/redis.parquet --memory 64MiB --link 100Mbit/s \\
      --group-pages 64 --flow out/redis
  pageferry analyze out/redis
"""
)
@click.argument("directory", metavar="DIR", type=click.Path())
@json_option
@click.option(
    "--tables",
    "tables_target",
    metavar="DIR",
    default=None,
    help="Write every frame, every group and every round as Parquet tables.",
)
def analyze(directory: str, json_target: str | None, tables_target: str | None) -> None:
    """Ask the flow of a migration whether its page groups made sense.

    DIR is what pageferry migrate --flow wrote. Answers, in sentences and tables: which cause
    slowed the guest, what groups saved, what they opened for nothing and how often it crossed
    the network, how likely the neighbour of a written page is written too, and the group size
    that this workload would have wanted. docs/analysis.md says how each number is computed.
    """
    from pageferry import results
    from pageferry.analysis.analysis import analyze as analysis_of
    from pageferry.analysis.analysis import write_tables
    from pageferry.analysis.sentences import conclusions
    from pageferry.analysis.tables import tables
    from pageferry.cli.json_target import check, written

    check(json_target)
    if tables_target is not None:
        results.check_directory(Path(tables_target), "name another directory for --tables")
    analysis = analysis_of(Path(directory))
    if tables_target is not None:
        write_tables(Path(directory), Path(tables_target))
    console = written(analysis, json_target)
    for sentence in conclusions(analysis):
        console.print(sentence, markup=False)
    for table in tables(analysis):
        console.print()
        console.print(table)
