"""`--json FILE`: what a command shows as a table, as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option; its parameter is ``json_target``."""
    return click.option(
        "--json",
        "json_target",
        metavar="FILE",
        default=None,
        help="Write the same as one JSON document; - is stdout.",
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
    from pageferry.cli.output import stderr_console, stdout_console
    from pageferry.results import write

    if json_target is not None:
        write(document, json_target)
    return stderr_console() if json_target == "-" else stdout_console()
