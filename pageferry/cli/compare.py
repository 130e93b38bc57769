"""`pageferry compare`: results of migrations side by side."""

from __future__ import annotations

from pathlib import Path

import click

from pageferry.cli.json_target import json_option


@click.command(
    epilog="""\b
Example:
  pageferry migrate --json single.json
  pageferry migrate --group-pages 64 --json grouped.json
  pageferry compare single.json grouped.json
"""
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path())
@json_option
def compare(files: tuple[str, ...], json_target: str | None) -> None:
    """Put results that pageferry migrate --json wrote side by side.

    Columns are named after what differs between the configurations.
    """
    from pageferry import results
    from pageferry.cli.json_target import check, written
    from pageferry.comparison import document_of, labels
    from pageferry.damage import computing_from
    from pageferry.tables import summary

    check(json_target)
    documents = [results.read(Path(file)) for file in files]
    with computing_from("one of the results", "write them again with pageferry migrate --json"):
        names = labels(documents, [Path(file).stem for file in files])
        table = summary(documents, names)
        compared = document_of(documents, names)
    written(compared, json_target).print(table)
