"""Importing a trace from a file or a pipe, with progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TransferSpeedColumn,
)

from pageferry.cli.output import stderr_console
from paging_core.errors import BadTrace
from paging_core.traces.importing.detect import HEAD_BYTES
from paging_core.traces.schema import TraceInfo
from paging_core.traces.written.schema import Description
from paging_core.units import format_bytes, format_ns

_LINE_EVERY_BYTES = 1 << 30


Progressed = Callable[[int], None]
"""Is told how many more bytes were read."""
Importer = Callable[[BinaryIO, Path, str, Progressed], TraceInfo | Description]
"""Imports a stream into a file; told the stream's name."""


def import_file(file: str, out: str, importer: Importer, *, force: bool) -> None:
    """Import ``FILE`` or, for ``-``, stdin, and say in one line what became of it.

    Raises:
        BadTrace: it cannot be read or is something else, or the trace cannot be written.
    """
    target = checked_target(out, force=force)
    name = "stdin" if file == "-" else file
    with _opened(file) as (stream, size_bytes), progress(name, size_bytes) as advance:
        made = importer(stream, target, name, advance)
    say(target, made)


def beginning_of(file: str) -> bytes:
    """The first bytes of ``FILE`` or, for ``-``, of stdin, which can be read from there again.

    Raises:
        BadTrace: it cannot be read.
    """
    with _opened(file) as (stream, _):
        try:
            return cast("BufferedReader", stream).peek(HEAD_BYTES)[:HEAD_BYTES]
        except OSError as error:
            raise BadTrace(f"cannot read {file}: {error.strerror}") from error


def checked_target(out: str, *, force: bool) -> Path:
    """Where the trace goes.

    Raises:
        BadTrace: something is there already, and shall not be replaced.
    """
    target = Path(out)
    if target.exists() and not force and not target.is_dir():
        raise BadTrace(f"{out} is there already; give --force to replace it, or another name")
    return target


def say(target: Path, made: TraceInfo | Description) -> None:
    """In one line what became of it."""
    if isinstance(made, TraceInfo):
        what = f"{made.instructions:,} {made.counts}"
    else:
        what = f"{made.windows:,} windows of {format_ns(made.duration_ns)}"
    size = format_bytes(target.stat().st_size)
    click.echo(f"{target}: {what} in {size}; see pageferry trace show")


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The text and its size, as far as it has one."""
    if file == "-":
        stdin = sys.stdin.buffer
        if stdin.isatty():
            raise click.UsageError("nothing is piped in; pipe a tool's output, or name a FILE")
        yield stdin, None
        return
    path = Path(file)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise BadTrace(f"cannot read {file}: {error.strerror}") from error
    with stream:
        yield stream, path.stat().st_size if path.is_file() else None


@contextmanager
def progress(name: str, size_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Something to tell how many more bytes were read."""
    console = stderr_console()
    if not console.is_terminal:
        yield _Lines(name)
        return
    measure = BarColumn() if size_bytes else SpinnerColumn()
    columns = (TextColumn("reading {task.description}"), measure)
    with Progress(
        *columns, DownloadColumn(binary_units=True), TransferSpeedColumn(),
        console=console, transient=True,
    ) as shown:  # fmt: skip
        task = shown.add_task(name, total=size_bytes)
        yield lambda count: shown.advance(task, count)


class _Lines:
    """Progress where nothing can be redrawn: a line per GiB."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._read_bytes = 0

    def __call__(self, count_bytes: int) -> None:
        before, self._read_bytes = self._read_bytes, self._read_bytes + count_bytes
        if before // _LINE_EVERY_BYTES != self._read_bytes // _LINE_EVERY_BYTES:
            print(f"reading {self._name}: {format_bytes(self._read_bytes)}", file=sys.stderr)
