"""Importing a trace from a file or a pipe, with progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
from paging_core.traces.lackey import ImportOptions, import_lackey
from paging_core.units import format_bytes

_LINE_EVERY_BYTES = 1 << 30


def import_file(file: str, out: str, options: ImportOptions, *, force: bool) -> None:
    """Import ``FILE`` or, for ``-``, stdin, and say in one line what became of it.

    Raises:
        BadTrace: it cannot be read or is not lackey's, or the trace cannot be written.
    """
    target = Path(out)
    if target.exists() and not force and not target.is_dir():
        raise BadTrace(f"{out} is there already; give --force to replace it, or another name")
    name = "stdin" if file == "-" else file
    with _opened(file) as (stream, size_bytes), _progress(name, size_bytes) as advance:
        info = import_lackey(stream, target, options, name=name, progress=advance)
    size = format_bytes(target.stat().st_size)
    click.echo(f"{out}: {info.instructions:,} {info.counts} in {size}; see pageferry trace show")


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The text and its size, as far as it has one."""
    if file == "-":
        stdin = sys.stdin.buffer
        if stdin.isatty():
            raise click.UsageError("nothing is piped in; pipe lackey's output, or name a FILE")
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
def _progress(name: str, size_bytes: int | None) -> Iterator[Callable[[int], None]]:
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
