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
    from rich import box
    from rich.table import Table

    from pageferry.cli.json_target import check, written
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
                    for one in info.parameters
                ],
            }
            for info in chosen
        ],
    }
    console = written(document, json_target)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    if name is None:
        for title in ("workload", "what it does", "parameters"):
            table.add_column(title, no_wrap=title == "workload")
        for info in chosen:
            known = ", ".join(parameter.name for parameter in info.parameters)
            table.add_row(info.name, info.summary, known)
        console.print(table)
        return
    (info,) = chosen
    for title in ("parameter", "default", "what it is"):
        table.add_column(title, no_wrap=title != "what it is")
    for parameter in info.parameters:
        table.add_row(parameter.name, parameter.default, parameter.help)
    console.print(f"{info.name}: {info.summary}")
    console.print(table)
