"""`--json [FILE]`: what a command shows as a table, as one JSON document.

Every command that prints a table has the option from here, and no other of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

STDOUT = "-"


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option; its parameter is ``json_target``."""
    return click.option(
        "--json",
        "json_target",
        metavar="[FILE]",
        is_flag=False,
        flag_value=STDOUT,
        default=None,
        help="Write the same as one JSON document. Without FILE, or to -, it goes to stdout, and "
        "the tables to stderr.",
    )(command)


def check(json_target: str | None) -> None:
    """Refuse a file that cannot be written before anything is computed for it.

    Raises:
        BadResult: it cannot be.
    """
    if json_target is not None:
        from pageferry.results import check_target

        check_target(json_target)


def written(document: Mapping[str, Any], json_target: str | None) -> Console:
    """Write the document, if it was asked for, and give the console for the tables.

    Raises:
        BadResult: it cannot be written.
    """
    from pageferry.results import write

    if json_target is not None:
        write(document, json_target)
    return console_beside(json_target)


def console_beside(json_target: str | None) -> Console:
    """Where tables go: to stdout, unless the document has it."""
    from pageferry.cli.output import stderr_console, stdout_console

    return stderr_console() if json_target == STDOUT else stdout_console()
