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
    from rich.text import Text

    from pageferry.cli.output import stdout_console
    from pageferry.fitting import Fitted
    from paging_core.workloads.catalog import describe_workloads, parse_spec

    console = stdout_console()
    if name is None:
        titles = ("workload", "what it does", "parameters")
        table = Fitted(titles, prose=frozenset(titles[1:]))
        for each in describe_workloads():
            known = ", ".join(parameter.name for parameter in each.parameters)
            table.add(each.name, Text(each.summary), Text(known))
        console.print(table)
        return
    info, _ = parse_spec(name)
    titles = ("parameter", "default", "what it is")
    table = Fitted(titles, left=frozenset({"default"}), prose=frozenset({"what it is"}))
    for parameter in info.parameters:
        table.add(parameter.name, Text(parameter.default), Text(parameter.help))
    console.print(f"{info.name}: {info.summary}", markup=False)
    console.print(table)
