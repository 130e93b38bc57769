"""Options of the commands that call a host which runs already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pageferry.cli.json_target import check, json_option, written

Command = Callable[..., Any]


def reaches_a_host(command: Command) -> Command:
    """Give a command the host's ADDRESS, and who we are there."""
    command = json_option(command)
    command = click.option(
        "--insecure", is_flag=True, help="Use plain text with a host on another machine."
    )(command)
    command = click.option(
        "--tls",
        type=click.Path(path_type=Path),
        metavar="DIR",
        envvar="PAGEFERRY_TLS",
        default=None,
        help="Your certificate: a directory that pageferry certs made, such as certs/operator.",
    )(command)
    return click.argument("address")(command)


def check_list(json_target: str | None, action: str | None, ctx: click.Context) -> None:
    """Refuse --json where nothing is listed, and a file that cannot be written.

    Raises:
        BadResult: it cannot be.
    """
    if json_target is not None and action is not None:
        raise click.UsageError(f"--json is about the list; drop it, or drop {action}", ctx)
    check(json_target)


def each_of(action: Callable[[str], object], names: Sequence[str], did: str) -> int:
    """Do something to each; one that cannot be does not keep the others from it.

    Args:
        action: to do; a text that it returns is said behind what was done.
        names: to what.
        did: past participle, for a line on each.

    Returns:
        The exit code of the command.
    """
    from pageferry.cli.shell import EXIT_FAILED, complain
    from paging_core.errors import PageferryError

    code = 0
    for name in names:
        try:
            said = action(name)
        except PageferryError as error:
            complain(str(error))
            code = EXIT_FAILED
        else:
            click.echo(f"{name} {did}: {said}" if isinstance(said, str) else f"{name} {did}")
    return code


def state_name(states: Any, prefix: str, number: int) -> str:
    """A state as people read it; a number that the contract has no name for stays one.

    Args:
        states: the enumeration, of the generated code.
        prefix: of its names.
        number: as the host said.
    """
    if number not in states.values():
        return f"unknown ({number})"
    name: str = states.Name(number)
    return name.removeprefix(prefix).lower()


def show_list(
    what: str,
    rows: Sequence[Mapping[str, Any]],
    reading: Mapping[str, Callable[[Any], str]],
    json_target: str | None,
) -> None:
    """Print what there is as a table, and write it as JSON if that was asked for.

    Args:
        what: is listed, such as ``guests``.
        rows: values by name, in the order of the table's columns.
        reading: how a value reads in the table, by its name; others as they are.
        json_target: file of the document, whose values are as they are; None for none.

    Raises:
        BadResult: the document cannot be written.
    """
    document = {"schema": {"name": f"pageferry.{what}", "version": 1}, what: list(rows)}
    console = written(document, json_target)
    if not rows:
        click.echo(f"no {what}", err=True)
        return
    from rich.text import Text

    from pageferry.fitting import stacked

    titles = {name: name.removesuffix("_ns").removesuffix("_bytes") for name in rows[0]}
    words = [titles[name] for name, value in rows[0].items() if isinstance(value, str)]
    cells = [[Text(reading.get(name, str)(value)) for name, value in row.items()] for row in rows]
    console.print(stacked(list(titles.values()), cells, prose=words))
