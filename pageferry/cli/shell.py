"""How every subcommand behaves as a program: lazy loading, one-line errors, exit codes.

Exit codes: 0 done, 1 it failed, 2 what was asked cannot be, 3 done and beyond a limit that was set
(--fail-if), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from threading import current_thread, main_thread
from typing import Any, NamedTuple

import click

from pageferry.interrupts import Interrupted, Interrupts
from paging_core.errors import InvalidInput, PageferryError
from paging_core.text import printable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_THRESHOLD = 3
EXIT_INTERRUPTED = 130
_MOST_CHARS = 4000
"""Of an error: most name a file, and lists of what there is are long."""

_BREAKS = re.compile(r"[^\S\n\r]*[\n\r]\s*")
_LAB = ("altair", "duckdb", "vl_convert")
"""What the extra ``lab`` brings."""


class _Stopped(click.ClickException):
    """The end was asked for."""

    def __init__(self, code: int) -> None:
        super().__init__("stopped")
        self.code = code


class Lazy(NamedTuple):
    """A subcommand that is imported only when it runs.

    Attributes:
        target: ``module:attribute`` of the click command.
        summary: its line in the group's help.
    """

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group whose help needs none of its subcommands' imports.

    numba, grpc, pyarrow and rich take longer to import than `--help` may take.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self._interrupts: Interrupts | None = None
        self._typed: Sequence[str] = ()

    @property
    def typed(self) -> str:
        """The whole command as it was typed last, for a shell."""
        return shlex.join([str(self.name or "pageferry"), *self._typed])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands in the order a newcomer needs them."""
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        del ctx
        if cmd_name not in self.lazy:
            return None
        module, attribute = self.lazy[cmd_name].target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands from their summaries."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self.lazy.items()])

    def main(  # type: ignore[override]  # click overloads it for standalone_mode alone
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as a program: one line on stderr and an exit code for whatever goes wrong."""
        self._typed = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        if current_thread() is not main_thread():  # where no signal arrives
            sys.exit(self._run(args, prog_name, extra))
        with Interrupts() as self._interrupts:
            code = self._run(args, prog_name, extra)
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; a Ctrl-C or SIGTERM that it leaves to us ends it in one line."""
        try:
            return super().invoke(ctx)
        except Interrupted as interrupted:
            raise _Stopped(interrupted.exit_code) from interrupted
        except Exception as error:
            raised = self._interrupts.raised if self._interrupts else None
            if raised is None:
                raise
            # DuckDB, for one, makes a RuntimeError of whatever ends a query.
            raise _Stopped(raised.exit_code) from error

    def _run(self, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort, PageferryError) as error:
            return _fail(error)
        except ModuleNotFoundError as error:
            if error.name not in _LAB:
                raise
            complain(f"this command needs {error.name}; install pageferry with its extra lab")
            return EXIT_FAILED
        except BrokenPipeError:
            _forget_stdout()
            return EXIT_FAILED
        return code if isinstance(code, int) else 0


def _fail(error: Exception) -> int:
    """Say in one line what went wrong; the exit code that goes with it."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return EXIT_USAGE
        case click.UsageError():
            complain(f"{error.format_message()} {_see_help(error)}")
            return EXIT_USAGE
        case _Stopped():
            complain(error.format_message())
            return error.code
        case click.ClickException():
            complain(error.format_message())
            return error.exit_code
        case click.Abort():
            complain("stopped")
            return EXIT_INTERRUPTED
        case _:
            complain(str(error))
            return EXIT_USAGE if isinstance(error, InvalidInput) else EXIT_FAILED


def typed(ctx: click.Context) -> str:
    """The whole command, as it was typed."""
    command = ctx.find_root().command
    return command.typed if isinstance(command, LazyGroup) else ""


def complain(message: str) -> None:
    """Say in one line on stderr what went wrong."""
    # Breaks become blanks, but blanks stay: a text that is quoted is shown as it is.
    line = printable(_BREAKS.sub(" ", message.strip()))
    cut = "…" if len(line) > _MOST_CHARS else ""
    click.echo(f"error: {line[:_MOST_CHARS]}{cut}", err=True)


def _see_help(error: click.UsageError) -> str:
    # A value that says how to write it needs no pointer to the manual.
    if error.ctx is None or isinstance(error, click.BadParameter):
        return ""
    return f"(see {error.ctx.command_path} --help)"


def _forget_stdout() -> None:
    # The reader is gone (`| head`): nothing may be flushed into the pipe at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
