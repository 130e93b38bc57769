"""`pageferry workloads`: what a guest can run."""

from __future__ import annotations

import click

from pageferry.cli.json_target import json_option


@click.command(
    epilog="""\b
Give any of the parameters after the name:
  pageferry workloads zipf
  pageferry migrate --workload zipf:wss=32MiB,write_rate=200k
"""
)
@click.argument("name", required=False)
@json_option
def workloads(name: str | None, json_target: str | None) -> None:
    """List the workloads; with the NAME of one, its parameters and their defaults."""
    from rich.text import Text

    from pageferry.cli.json_target import check, written
    from pageferry.fitting import Fitted
    from paging_core.workloads.catalog import describe_workloads, parse_spec

    check(json_target)
    chosen = describe_workloads() if name is None else [parse_spec(name)[0]]
    document = {
        "schema": {"name": "pageferry.workloads", "version": 1},
        "workloads": [
            {
                "workload": info.name,
                "what": info.summary,
                "parameters": [
                    {"parameter": one.name, "default": one.default, "what": one.help}
                    for one in info.options
                ],
            }
            for info in chosen
        ],
    }
    console = written(document, json_target)
    if name is None:
        titles = ("workload", "what it does", "parameters")
        table = Fitted(titles, prose=frozenset(titles[1:]))
        for each in chosen:
            known = ", ".join(parameter.name for parameter in each.options)
            table.add(each.name, Text(each.summary), Text(known))
        console.print(table)
        return
    (info,) = chosen
    titles = ("parameter", "default", "what it is")
    table = Fitted(titles, left=frozenset({"default"}), prose=frozenset({"what it is"}))
    for parameter in info.options:
        table.add(parameter.name, Text(parameter.default), Text(parameter.help))
    console.print(f"{info.name}: {info.summary}", markup=False)
    console.print(table)
