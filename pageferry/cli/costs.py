"""`pageferry costs`: the cost table with its sources."""

from __future__ import annotations

import click

from pageferry.cli.json_target import json_option


@click.command(
    epilog="""\b
What --costs takes, here and for pageferry migrate:
  low, typical, high     every event at that end of its interval
  xen-2009               a table of a year or a machine, by name
  FILE                   a TOML file, which overrides what it names:
                           [ns]
                           fixup = 1500
                           shadow_page_build = [1000, 2500, 3000]
                           [source]
                           fixup = "measured on a machine of 2015"
  xen-2009:high          either of them at an end of its intervals
"""
)
@click.option(
    "--costs",
    "named",
    metavar="NAME|FILE",
    default="typical",
    help="Show this table instead of the default one.",
)
@json_option
def costs(named: str, json_target: str | None) -> None:
    """List what every event costs in nanoseconds, between which bounds, and who says so."""
    from rich.text import Text

    from pageferry.cli.json_target import check, written
    from pageferry.fitting import Fitted
    from paging_core.costs import CostTable, known
    from paging_core.events import Event

    check(json_target)
    prices = CostTable.named(named)
    table = Fitted(("event", "ns", "low", "high", "source"), prose=frozenset({"source"}))
    rows = []
    for event in Event:
        name = event.name.lower()
        low, high = prices.span_ns(event)
        source = prices.source(event) or named
        shown = (f"{ns:g}" for ns in (prices.ns(event), low, high))
        table.add(name, *shown, Text(source))
        rows.append(
            {"event": name, "ns": prices.ns(event), "low": low, "high": high, "source": source}
        )
    document = {
        "schema": {"name": "pageferry.costs", "version": 2},
        "named": named,
        "known": known(),
        "costs": rows,
    }
    written(document, json_target).print(table)
