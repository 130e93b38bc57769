"""Reading lackey's text, compiled: bytes in, page-level accesses out.

Lines of ``valgrind --tool=lackey --trace-mem=yes``::

    I  0401ab70,3        an instruction is fetched: address in hex, bytes in decimal
     L 1fff000768,8      it loads
     S 1fff000760,8      it stores
     M 0421d8a0,4        it modifies: loads, then stores
    SB 0401ab70          a superblock is entered (--trace-superblocks=yes); passed over
    ==7478== …           Valgrind itself speaks (also -- and **); passed over

Digits may be capitals, as in lackey's manual; blanks, tabs and a carriage return may end a line,
as files carry them that went through an editor or another system.

Accesses are collapsed within a window of instructions: the first read of a page (loads and
fetches) and the first write to it make a row each, at the instruction where they happened;
further ones in the same window are counted there. So a row's time is exact, and what is lost
is only when, within a window, a page was touched again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.kernels.pointers import RecordArray
from paging_core.traces.kernels.views import ParserView, RowView, SeenView
from paging_core.units import FRAME_SHIFT
from paging_core.workloads.ops import USER_TOP

Text = npt.NDArray[np.uint8]
"""Whole lines: the last byte is a newline."""
Rows = RecordArray[RowView]
"""Of ROW_DTYPE."""
Seen = RecordArray[SeenView]
"""Of SEEN_DTYPE."""

ROW_DTYPE = np.dtype(
    [
        ("instructions", np.int64),
        ("page", np.int64),
        ("accesses", np.int64),
        ("write", np.int64),
    ]
)
"""A row under construction; `paging_core.traces.schema` says what the columns mean."""

SEEN_DTYPE = np.dtype([("key", np.int64), ("window", np.int64), ("row", np.int64)])
"""A slot of the hash table of what the current window has touched."""

PARSER_DTYPE = np.dtype(
    [
        ("lines", np.int64),
        ("instructions", np.int64),
        ("reads", np.int64),
        ("writes", np.int64),
        ("rows", np.int64),  # used in the buffer
        ("window", np.int64),  # serial number of the current window, from 1
        ("window_end", np.int64),  # instruction count at which it ends
        ("window_row", np.int64),  # its first row
    ]
)
"""What the parser remembers from one chunk to the next."""

SEEN_SLOTS = 1 << 12
MAX_WINDOW_ROWS = SEEN_SLOTS // 2
"""A window with more rows ends early, so that the hash table stays small."""
MAX_ACCESS_BYTES = 4096
"""So that an access lies in two pages at most; the largest that there are have 2 to 3 KiB."""
_MAX_ROW_ACCESSES = 2**31 - 1
"""What a row's column can hold; further accesses of a window without time are not counted."""
_ROWS_PER_LINE = 2

# How `parse_lines` ended.
DONE = 0
"""The whole text was read."""
FULL = 1
"""The buffer of rows is full: take the finished ones out and come again."""
GARBAGE = 2
"""The next line is none of lackey's, or its access cannot be."""

# Kinds of line beside the four letters.
_NOISE = 0
_UNKNOWN = -1
_SUPERBLOCK = -2

_TAB, _NEWLINE, _RETURN, _SPACE, _COMMA = 9, 10, 13, 32, 44
_B, _I, _L, _M, _S = 66, 73, 76, 77, 83
_EQUALS, _MINUS, _STAR = 61, 45, 42
_PREFIX_BYTES = 3
_HASH = 0x9E3779B1


@kernel
def _line_end(text: Text, at: int) -> int:
    """Where the newline is, if nothing but blanks stands before it; else -1."""
    byte = text[at]
    while byte != _NEWLINE:
        if byte != _SPACE and byte != _TAB and byte != _RETURN:  # noqa: PLR1714 - a tuple is slow
            return -1
        at += 1
        byte = text[at]
    return at


@kernel
def _line_kind(text: Text, at: int) -> int:
    """The letter of a line of the trace, or another kind. Never reads past a newline."""
    first = text[at]
    if first == _NEWLINE:
        return _NOISE
    second = text[at + 1]
    if second != _NEWLINE and text[at + 2] == _SPACE:
        if first == _I and second == _SPACE:
            return _I
        if first == _SPACE and second in (_L, _S, _M):
            return int(second)
        if first == _S and second == _B:
            return _SUPERBLOCK
    if first == second and first in (_EQUALS, _MINUS, _STAR):
        return _NOISE
    return _NOISE if _line_end(text, at) >= 0 else _UNKNOWN


@kernel
def _digit(byte: int) -> int:
    """The value of a hexadecimal digit; 99 for any other byte."""
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return 99


@kernel
def _number(text: Text, at: int, base: int, limit: int) -> tuple[int, int]:
    """The number that begins here, -1 if there is none up to `limit`; and where it ends."""
    value = -1
    digit = _digit(text[at])
    while digit < base and value < limit:
        value = max(value, 0) * base + digit
        at += 1
        digit = _digit(text[at])
    return (value if value <= limit else -1), at


@kernel
def _access(text: Text, at: int, kind: int) -> tuple[int, int, int]:
    """Address and size of an access, and where its line ends; -1 if it cannot be.

    A superblock has an address alone.
    """
    size_bytes = 0
    address, end = _number(text, at, 16, USER_TOP - 1)
    if address < 0:
        return 0, 0, -1
    if kind != _SUPERBLOCK:
        if text[end] != _COMMA:
            return 0, 0, -1
        size_bytes, end = _number(text, end + 1, 10, MAX_ACCESS_BYTES)
        if size_bytes < 1 or address + size_bytes > USER_TOP:
            return 0, 0, -1
    return address, size_bytes, _line_end(text, end)


@kernel
def _next_line(text: Text, at: int) -> int:
    while text[at] != _NEWLINE:
        at += 1
    return at + 1


@kernel
def _start_window(parser: ParserView, window_instructions: int) -> None:
    parser.window += 1
    parser.window_row = parser.rows
    parser.window_end = (parser.instructions // window_instructions + 1) * window_instructions


@kernel
def _touch(parser: ParserView, seen: Seen, rows: Rows, page: int, write: int) -> None:
    """Count an access in its row of this window, or begin one."""
    key = page << 1 | write
    at = (key * _HASH >> 12) & (SEEN_SLOTS - 1)
    while seen[at].window == parser.window and seen[at].key != key:
        at = (at + 1) & (SEEN_SLOTS - 1)
    slot = seen[at]
    if slot.window == parser.window:
        counted = rows[parser.window_row + slot.row]
        counted.accesses = min(counted.accesses + 1, _MAX_ROW_ACCESSES)
        return
    slot.window = parser.window
    slot.key = key
    slot.row = parser.rows - parser.window_row
    row = rows[parser.rows]
    row.instructions = parser.instructions
    row.page = page
    row.accesses = 1
    row.write = write
    parser.rows += 1


@kernel
def _count_access(
    parser: ParserView, seen: Seen, rows: Rows, address: int, size_bytes: int, kind: int
) -> None:
    """One access, on each page that it touches."""
    write = 1 if kind in (_S, _M) else 0
    parser.writes += write
    parser.reads += 1 - write
    first = address >> FRAME_SHIFT
    last = (address + size_bytes - 1) >> FRAME_SHIFT
    _touch(parser, seen, rows, first, write)
    if last != first:
        _touch(parser, seen, rows, last, write)


@kernel
def parse_lines(
    parser: ParserView,
    seen: Seen,
    rows: Rows,
    text: Text,
    at: int,
    window_instructions: int,
    paced: bool,
) -> tuple[int, int]:
    """Read lines until the text ends, the buffer is full or a line is not lackey's.

    Args:
        parser: one record of PARSER_DTYPE.
        seen: SEEN_DTYPE, SEEN_SLOTS of them.
        rows: ROW_DTYPE; those before `parser.window_row` are finished.
        text: whole lines.
        at: where to begin.
        window_instructions: the length of a window.
        paced: every access counts as an instruction, and not each fetch.

    Returns:
        Where the first line that was not read begins, and DONE, FULL or GARBAGE.
    """
    while at < text.shape[0]:
        if parser.rows + _ROWS_PER_LINE > rows.shape[0]:
            return at, FULL
        kind = _line_kind(text, at)
        if kind == _UNKNOWN:
            return at, GARBAGE
        if kind == _NOISE:
            at = _next_line(text, at)
            parser.lines += 1
            continue
        address, size_bytes, newline = _access(text, at + _PREFIX_BYTES, kind)
        if newline < 0:
            return at, GARBAGE
        at = newline + 1
        parser.lines += 1
        if kind == _SUPERBLOCK:
            continue
        parser.instructions += 1 if paced or kind == _I else 0
        started = parser.instructions >= parser.window_end
        if started or parser.rows - parser.window_row > MAX_WINDOW_ROWS - _ROWS_PER_LINE:
            _start_window(parser, window_instructions)
        _count_access(parser, seen, rows, address, size_bytes, kind)
    return at, DONE
