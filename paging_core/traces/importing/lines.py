"""Lines of a text of any size: one at a time, none longer than a line of it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from paging_core.errors import BadTrace
from paging_core.text import shown

MOST_LINE_BYTES = 4096


def lines_of(
    stream: BinaryIO, name: str, progress: Callable[[int], None]
) -> Iterator[tuple[int, bytes]]:
    """Each line's number, from 1, and the line without its end.

    Raises:
        BadTrace: a line is longer than any, or the stream cannot be read.
    """
    number = unsaid = 0
    while line := _read(stream, name):
        number += 1
        unsaid += len(line)
        if unsaid > 1 << 18:
            progress(unsaid)
            unsaid = 0
        if len(line) > MOST_LINE_BYTES:
            raise refused(name, number, line, f"is longer than {MOST_LINE_BYTES} bytes")
        yield number, line.rstrip(b"\r\n")
    progress(unsaid)


def refused(name: str, number: int, line: bytes, why: str) -> BadTrace:
    """The error about a line."""
    return BadTrace(f"{name}: line {number} {why} ({shown(line)})")


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.readline(MOST_LINE_BYTES + 1)
    except OSError as error:
        raise BadTrace(f"cannot read {name}: {error.strerror}") from error
