"""`pageferry costs`: the cost table with its sources."""

from __future__ import annotations

from pathlib import Path

import click


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
def costs(costs_file: str | None) -> None:
    """List what every event costs in nanoseconds, and who says so."""
    from rich.text import Text

    from pageferry.cli.output import stdout_console
    from pageferry.fitting import Fitted
    from paging_core.costs import DEFAULTS, CostTable
    from paging_core.events import Event

    prices = CostTable.from_toml(Path(costs_file)) if costs_file else CostTable()
    table = Fitted(("event", "ns", "source"), prose=frozenset({"source"}))
    for event in Event:
        name = event.name.lower()
        overridden = name in prices.overrides_ns
        source = costs_file if overridden and costs_file else DEFAULTS[event].source
        table.add(name, f"{prices.ns(event):g}", Text(source))
    stdout_console().print(table)
