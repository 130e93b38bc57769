"""Importing what Valgrind's lackey tool wrote: a stream of any size into a trace.

Text is read in chunks, and rows are written in groups, so memory does not grow with either.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from paging_core.errors import BadOption, BadTrace
from paging_core.traces.kernels.lackey_parser import (
    DONE,
    GARBAGE,
    MAX_WINDOW_ROWS,
    PARSER_DTYPE,
    ROW_DTYPE,
    SEEN_DTYPE,
    SEEN_SLOTS,
    Text,
    parse_lines,
)
from paging_core.traces.kernels.replay_ops import Columns
from paging_core.traces.schema import TraceInfo
from paging_core.traces.writer import TraceWriter

DEFAULT_WINDOW = 100_000
DEFAULT_SPEED = 1_000_000_000
GROUP_ROWS = 1 << 17
"""Rows that are written, and later read, at a time."""
_CHUNK_BYTES = 1 << 18
_MAX_LINE_BYTES = 1 << 16
_COMMAND = re.compile(rb"^==\d+== Command: (.*)$", re.MULTILINE)
_HOW = "record with: valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM"


@dataclass(frozen=True)
class ImportOptions:
    """How text becomes a trace.

    Attributes:
        command: what was traced; None takes it from Valgrind's own lines.
        window_instructions: accesses are collapsed within windows of so many instructions.
        instructions_per_second: of guest time when it is replayed.
    """

    command: str | None = None
    window_instructions: int = DEFAULT_WINDOW
    instructions_per_second: int = DEFAULT_SPEED

    def __post_init__(self) -> None:
        if not 1_000_000 <= self.instructions_per_second <= 10**12:
            raise BadOption(
                f"{self.instructions_per_second} instructions per second is not from 1M to 1000G"
            )
        most = self.info("", (0, 0, 0), {}).max_gap_instructions
        if not 1 <= self.window_instructions <= most:
            raise BadOption(
                f"a window of {self.window_instructions} instructions is not from 1 to {most}, "
                f"which is 4 ms at {self.instructions_per_second} a second; take a shorter one"
            )

    def info(
        self, command: str, counts: tuple[int, int, int], columns_xxh3: dict[str, str]
    ) -> TraceInfo:
        """The description of a trace with these counts of instructions, reads and writes."""
        return TraceInfo(
            "lackey",
            command if self.command is None else self.command,
            *counts,
            self.window_instructions,
            self.instructions_per_second,
            columns_xxh3,
        )


class _Importer:
    """The text so far, as rows."""

    def __init__(self, name: str, options: ImportOptions, writer: TraceWriter) -> None:
        self._name = name
        self._options = options
        self._writer = writer
        self._parser = np.zeros(1, PARSER_DTYPE)
        self._seen = np.zeros(SEEN_SLOTS, SEEN_DTYPE)
        self._rows = np.zeros(GROUP_ROWS + MAX_WINDOW_ROWS, ROW_DTYPE)
        self.command = b""

    def read(self, lines: bytes) -> None:
        """Take in whole lines."""
        if not self.command and (found := _COMMAND.search(lines, 0, _MAX_LINE_BYTES)):
            self.command = found[1]
        text: Text = np.frombuffer(lines, np.uint8)
        at, window = 0, self._options.window_instructions
        while True:
            at, ended = parse_lines(self._parser[0], self._seen, self._rows, text, at, window)
            if ended == DONE:
                return
            if ended == GARBAGE:
                raise self._garbage(lines[at : lines.index(b"\n", at)])
            self._write(int(self._parser["window_row"][0]))

    def finish(self) -> TraceInfo:
        """Write what is left."""
        state = self._parser[0]
        if not state["reads"] and not state["writes"]:
            raise BadTrace(f"{self._name} holds no memory accesses; {_HOW}")
        self._write(int(state["rows"]))
        counts = (int(state["instructions"]), int(state["reads"]), int(state["writes"]))
        command = self.command.decode(errors="replace")
        info = self._options.info(command, counts, self._writer.columns_xxh3)
        self._writer.finish(info)
        return info

    def _write(self, count: int) -> None:
        """Write the first rows and move the others to the front."""
        done, state = self._rows[:count], self._parser
        self._writer.write(
            Columns(
                done["instructions"].copy(),
                done["page"].copy(),
                done["accesses"].astype(np.int32),
                done["write"].astype(np.uint8),
            )
        )
        left = int(state["rows"][0]) - count
        self._rows[:left] = self._rows[count : count + left].copy()
        state["rows"] = left
        state["window_row"] -= count

    def _garbage(self, line: bytes) -> BadTrace:
        shown = line[:60].decode(errors="backslashreplace")
        return self.error(f"is none of lackey's ({shown!r}); {_HOW}")

    def error(self, what: str) -> BadTrace:
        """Something is wrong with the line after the last one that was read."""
        return BadTrace(f"{self._name}: line {int(self._parser['lines'][0]) + 1} {what}")


def import_lackey(
    stream: BinaryIO,
    out: Path,
    options: ImportOptions | None = None,
    *,
    name: str = "the input",
    progress: Callable[[int], None] = lambda _: None,
) -> TraceInfo:
    """Turn lackey's text into a trace; `out` appears whole or not at all.

    Args:
        stream: the output of ``valgrind --tool=lackey --trace-mem=yes``, of any size.
        out: the Parquet file to write; one that is there is replaced.
        options: how; None for the defaults.
        name: of the stream, for error messages.
        progress: told the bytes of each chunk that was read.

    Returns:
        What holds for the whole trace.

    Raises:
        BadTrace: the text is not lackey's, ends within a line or holds nothing; or `out`
            cannot be written.
    """
    with TraceWriter(out) as writer:
        importer = _Importer(name, options or ImportOptions(), writer)
        tail = b""
        while chunk := _read(stream, name):
            text = tail + chunk
            end = text.rfind(b"\n") + 1
            importer.read(text[:end])
            tail = text[end:]
            if len(tail) > _MAX_LINE_BYTES:
                raise importer.error(f"is longer than any of lackey's; {_HOW}")
            progress(len(chunk))
        if tail:
            raise importer.error("is cut off; let valgrind run to its end, then import again")
        return importer.finish()


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        # Not read1: Valgrind writes line by line, and a chunk would be as short.
        return stream.read(_CHUNK_BYTES)
    except OSError as error:
        raise BadTrace(f"cannot read {name}: {error.strerror}") from error
