"""`pageferry compare`: results of migrations side by side."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  pageferry migrate --json single.json
  pageferry migrate --group-pages 64 --json grouped.json
  pageferry compare single.json grouped.json
"""
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
def compare(files: tuple[str, ...]) -> None:
    """Put results that pageferry migrate --json wrote side by side.

    Columns are named after what differs between the configurations.
    """
    from pageferry import results
    from pageferry.cli.output import stdout_console
    from pageferry.comparison import labels
    from pageferry.damage import computing_from
    from pageferry.tables import summary

    documents = [results.read(Path(file)) for file in files]
    with computing_from("one of the results", "write them again with pageferry migrate --json"):
        names = labels(documents, [Path(file).stem for file in files])
        table = summary(documents, names)
    stdout_console().print(table)
