"""The command line that both hosts share: options of `serve`, and how errors end a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

from paging_core.errors import InvalidInput, PageferryError
from paging_core.units import parse_duration_ns, parse_memory_bytes, parse_size_bytes
from wire.channel import tune_malloc
from wire.launch import end_with_parent
from wire.logs import LEVELS, configure_logs
from wire.quantity import Quantity

_Command = TypeVar("_Command", bound=Callable[..., Any])


SIZE = Quantity("size", parse_size_bytes)
"""Bytes, such as ``64KiB``."""
MEMORY = Quantity("size", parse_memory_bytes)
"""Bytes of guest memory: a whole number of frames."""
DURATION = Quantity("duration", parse_duration_ns)
"""Nanoseconds, such as ``300ms``."""


def serve_options(host: str, default_listen: str) -> Callable[[_Command], _Command]:
    """Add the options that every ``serve`` has, and tune the process for moving pages.

    The command gets ``listen`` and ``metrics_port``; the rest has been acted upon.
    """
    options = (
        click.option(
            "--listen",
            default=default_listen,
            show_default=True,
            metavar="ADDRESS",
            help="host:port or unix:path to serve on; port 0 takes a free one and tells it.",
        ),
        click.option(
            "--metrics-port",
            type=click.IntRange(0, 65535),
            metavar="PORT",
            help="Show Prometheus metrics on this port of the same host; 0 takes a free one.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(LEVELS),
            default="info",
            show_default=True,
            help="Least severe lines that are logged to standard error.",
        ),
        click.option(
            "--exit-with-parent",
            is_flag=True,
            help="End when the process that started this one ends, however it ends.",
        ),
    )

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def prepared(*, log_level: str, exit_with_parent: bool, **arguments: Any) -> Any:
            configure_logs(log_level, host)
            tune_malloc()
            if exit_with_parent:
                end_with_parent()
            return command(**arguments)

        for option in reversed(options):
            prepared = option(prepared)
        return cast("_Command", prepared)

    return decorate


def run_command(command: click.Command, environment_prefix: str) -> None:
    """Run a command line; an error of ours ends it with one line and a status.

    Args:
        command: what to run, with this process's arguments.
        environment_prefix: every option is also ``PREFIX_COMMAND_OPTION``.
    """
    try:
        command(auto_envvar_prefix=environment_prefix)
    except PageferryError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
