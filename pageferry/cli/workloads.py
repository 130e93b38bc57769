"""`pageferry workloads`: what a guest can run."""

from __future__ import annotations

import click


@click.command(
    epilog="""\b
Give any of the parameters after the name:
  pageferry workloads zipf
  pageferry migrate --workload zipf:wss=32MiB,write_rate=200k
"""
)
@click.argument("name", required=False)
def workloads(name: str | None) -> None:
    """List the workloads; with the NAME of one, its parameters and their defaults."""
    from rich import box
    from rich.table import Table

    from pageferry.cli.output import stdout_console
    from paging_core.workloads.catalog import describe_workloads, parse_spec

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    console = stdout_console()
    if name is None:
        for title in ("workload", "what it does", "parameters"):
            table.add_column(title, no_wrap=title == "workload")
        for info in describe_workloads():
            known = ", ".join(parameter.name for parameter in info.parameters)
            table.add_row(info.name, info.summary, known)
        console.print(table)
        return
    info, _ = parse_spec(name)
    for title in ("parameter", "default", "what it is"):
        table.add_column(title, no_wrap=title != "what it is")
    for parameter in info.parameters:
        table.add_row(parameter.name, parameter.default, parameter.help)
    console.print(f"{info.name}: {info.summary}")
    console.print(table)
