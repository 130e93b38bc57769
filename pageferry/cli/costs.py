"""`pageferry costs`: the cost table with its sources."""

from __future__ import annotations

from pathlib import Path

import click

from pageferry.cli.json_target import json_option


@click.command(
    epilog="""\b
A TOML file overrides any of them, for pageferry migrate --costs FILE:
  [ns]
  fixup = 1500
  shadow_page_build = 2500
"""
)
@click.option(
    "--costs",
    "costs_file",
    metavar="FILE",
    default=None,
    type=click.Path(),
    help="Show the table with the overrides of this TOML file.",
)
@json_option
def costs(costs_file: str | None, json_target: str | None) -> None:
    """List what every event costs in nanoseconds, and who says so."""
    from rich.text import Text

    from pageferry.cli.json_target import check, written
    from pageferry.fitting import Fitted
    from paging_core.costs import DEFAULTS, CostTable
    from paging_core.events import Event

    check(json_target)
    prices = CostTable.from_toml(Path(costs_file)) if costs_file else CostTable()
    table = Fitted(("event", "ns", "source"), prose=frozenset({"source"}))
    rows = []
    for event in Event:
        name = event.name.lower()
        overridden = name in prices.overrides_ns
        source = costs_file if overridden and costs_file else DEFAULTS[event].source
        table.add(name, f"{prices.ns(event):g}", Text(source))
        rows.append({"event": name, "ns": prices.ns(event), "source": source})
    document = {"schema": {"name": "pageferry.costs", "version": 1}, "costs": rows}
    written(document, json_target).print(table)
