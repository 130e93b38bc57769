"""The command line that both hosts share: how a process begins, and how errors end it."""

from __future__ import annotations

import sys

import click

from paging_core.errors import InvalidInput, PageferryError
from wire.channel import tune_malloc
from wire.hosting.launch import end_with_parent
from wire.hosting.logs import configure_logs
from wire.hosting.serve_settings import ServeSettings
from wire.text import line


def prepare_process(settings: ServeSettings, host: str) -> None:
    """Logs, allocator and the like, before anything else runs."""
    configure_logs(settings.log_level, host)
    tune_malloc()
    if settings.exit_with_parent:
        end_with_parent()


def run_command(command: click.Command) -> None:
    """Run a command line; an error of ours ends it with one line and a status."""
    try:
        command()
    except PageferryError as error:
        click.echo(f"error: {line(str(error))}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
