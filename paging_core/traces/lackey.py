"""Importing what Valgrind's lackey tool wrote: a stream of any size into a trace.

Text is read in chunks, and rows are written in groups, so memory does not grow with either.
"""

from __future__ import annotations

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
from paging_core.traces.lackey_text import HOW, command_in, refused, what_else_it_is
from paging_core.traces.schema import ACCESSES, INSTRUCTIONS, TraceInfo
from paging_core.traces.writer import TraceWriter

DEFAULT_WINDOW = 100_000
DEFAULT_SPEED = 1_000_000_000
GROUP_ROWS = 1 << 17
"""Rows that are written, and later read, at a time."""
_CHUNK_BYTES = 1 << 18
_MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class ImportOptions:
    """How text becomes a trace.

    Attributes:
        command: what was traced; None takes it from Valgrind's own lines.
        window_instructions: accesses are collapsed within windows of so many instructions, or
            of so many accesses with `pace`; None for 100,000, or what 4 ms hold.
        instructions_per_second: of guest time when it is replayed; None for 1 G.
        pace: accesses per second of guest time: time is counted in accesses and not in
            instructions, which the text need not have. None counts instructions.
        tool: that recorded it.
    """

    command: str | None = None
    window_instructions: int | None = None
    instructions_per_second: int | None = None
    pace: int | None = None
    tool: str = "lackey"

    def __post_init__(self) -> None:
        if self.pace is not None and self.instructions_per_second is not None:
            raise BadOption(
                "--pace and --instructions-per-second both say how fast it is replayed; drop one"
            )
        if self.pace is not None and not 1000 <= self.pace <= 10**12:
            raise BadOption(f"a pace of {self.pace} accesses per second is not from 1k to 1000G")
        if self.pace is None and not 1_000_000 <= self.per_second <= 10**12:
            raise BadOption(f"{self.per_second} instructions per second is not from 1M to 1000G")
        if not 1 <= self.window <= self._longest_window:
            raise BadOption(
                f"a window of {self.window} {self.counts} is not from 1 to "
                f"{self._longest_window}, which is 4 ms at {self.per_second} a second; take a "
                "shorter one"
            )

    @property
    def counts(self) -> str:
        """What time is counted in."""
        return INSTRUCTIONS if self.pace is None else ACCESSES

    @property
    def per_second(self) -> int:
        """Instructions, or accesses, per second of guest time."""
        if self.pace is not None:
            return self.pace
        return self.instructions_per_second or DEFAULT_SPEED

    @property
    def window(self) -> int:
        """The length of a window."""
        if self.window_instructions is not None:
            return self.window_instructions
        return min(DEFAULT_WINDOW, self._longest_window)

    @property
    def _longest_window(self) -> int:
        return TraceInfo("", "", 0, 0, 0, 1, self.per_second, {}).max_gap_instructions

    def info(
        self, command: str, counts: tuple[int, int, int], columns_xxh3: dict[str, str]
    ) -> TraceInfo:
        """The description of a trace with these counts of instructions, reads and writes."""
        return TraceInfo(
            self.tool,
            command if self.command is None else self.command,
            *counts,
            self.window,
            self.per_second,
            columns_xxh3,
            self.counts,
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
        self.command = self.command or command_in(lines[:_MAX_LINE_BYTES])
        text: Text = np.frombuffer(lines, np.uint8)
        at, window, paced = 0, self._options.window, self._options.pace is not None
        while True:
            at, ended = parse_lines(
                self._parser[0], self._seen, self._rows, text, at, window, paced
            )
            if ended == DONE:
                return
            if ended == GARBAGE:
                raise self.error(refused(lines[at : lines.index(b"\n", at)]))
            self._write(int(self._parser["window_row"][0]))

    def finish(self) -> TraceInfo:
        """Write what is left.

        Raises:
            BadTrace: there are no accesses, or no time between them.
        """
        state = self._parser[0]
        if not state["reads"] and not state["writes"]:
            raise BadTrace(f"{self._name} holds no memory accesses; {HOW}")
        self._write(int(state["rows"]))
        counts = (int(state["instructions"]), int(state["reads"]), int(state["writes"]))
        command = self.command.decode(errors="replace")
        info = self._options.info(command, counts, self._writer.columns_xxh3)
        if why := info.without_time:
            raise BadTrace(f"{self._name} {why}")
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
        BadTrace: the text is not lackey's (or is compressed, or of another encoding), ends
            within a line, holds nothing or no time; or `out` cannot be written.
    """
    with TraceWriter(out) as writer:
        importer = _Importer(name, options or ImportOptions(), writer)
        tail, first = b"", True
        while chunk := _read(stream, name):
            text = tail + chunk
            if first and (other := what_else_it_is(text, name, out)):
                raise BadTrace(other)
            first = False
            end = text.rfind(b"\n") + 1
            importer.read(text[:end])
            tail = text[end:]
            if len(tail) > _MAX_LINE_BYTES:
                raise importer.error(f"is longer than any of lackey's; {HOW}")
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
