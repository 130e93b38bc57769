"""Importing what DynamoRIO's drmemtrace recorded: the text that its view tool prints.

    drrun -t drmemtrace -offline -- PROGRAM
    drrun -t drmemtrace -tool view -indir drmemtrace.PROGRAM.*.dir 2>view.txt

Older releases call it ``-t drcachesim -simulator_type view``. A record is a line: its number, the
number of the instruction, the thread, and what it is (clients/drcachesim/tools/view.cpp):

    47445       37770:     2765543 ifetch       5 byte(s) @ 0x0000000000404a7e 48 8b …   mov …
    47446       37770:     2765543 read         8 byte(s) @ 0x00007fdf64e2adc8 by PC 0x…
    47455       37775:     2765542 write        8 byte(s) @ 0x00007ffd90c13950 by PC 0x…
    47451       37774:     2765543 <marker: system call 273>

Each becomes the line of lackey's that says the same, and is imported as that (`lackey`): ifetch,
read and write. Markers, prefetches, flushes, the raw bytes of a long instruction on a line of their
own, and the tool's own lines are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

from paging_core.errors import BadTrace
from paging_core.traces.importing.lines import lines_of, refused
from paging_core.traces.kernels.lackey_parser import MAX_ACCESS_BYTES
from paging_core.traces.lackey import ImportOptions, import_lackey
from paging_core.traces.lackey_text import HOW
from paging_core.traces.schema import TraceInfo
from paging_core.workloads.ops import USER_TOP

TOOL = "drmemtrace"
FIRST_WORDS = b"Output format:"
_PREFIX = rb" *\d+ +\d+: +(?:W(\d+)\.)?T?(\d+) "
_ACCESS = re.compile(
    _PREFIX + rb"(ifetch|read|write) +(\d{1,9}) byte\(s\) @ 0x([0-9a-f]{1,16})(?: .*)?"
)
_NO_ACCESS = re.compile(
    _PREFIX + rb"(?:<.*>|(?:iflush|dflush|pref[-\w]*) +\d+ byte\(s\) @ 0x.*| *(?:[0-9a-f]{2} *)+)"
)
_OWN = re.compile(
    rb"Output format:|<--record#->.*|-+|View tool results:| *\d+ : total .*|[-=*]{2}.*|\s*"
)
_LETTERS = {b"ifetch": b"I ", b"read": b" L", b"write": b" S"}


class _AsLackey(RawIOBase):
    """The same text as lackey would have written it, line for line, as it is read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__()
        self._name = name
        self._lines = lines_of(stream, name, lambda _: None)
        self._made = b""
        self._workload: bytes | None = None

    def read(self, size: int = -1) -> bytes:
        """As many bytes as asked for, fewer at the end."""
        parts, length = [self._made], len(self._made)
        while length < size and (line := next(self._lines, None)):
            parts.append(self._line(*line))
            length += len(parts[-1])
        text = b"".join(parts)
        self._made = text[size:]
        return text[:size]

    def _line(self, number: int, line: bytes) -> bytes:
        access = _ACCESS.fullmatch(line)
        if access is None:
            if _NO_ACCESS.fullmatch(line) or _OWN.fullmatch(line):
                return b"\n"
            raise refused(self._name, number, line, "is none of drmemtrace's view tool")
        if why := self._refused(access):
            raise refused(self._name, number, line, why)
        return b"%s %s,%s\n" % (_LETTERS[access[3]], access[5], access[4])

    def _refused(self, access: re.Match[bytes]) -> str:
        workload, size_bytes, address = access[1], int(access[4]), int(access[5], 16)
        if self._workload is None:
            self._workload = workload or b""
        if (workload or b"") != self._workload:
            return "is of a second workload, whose pages are others; import one of them alone"
        if not 1 <= size_bytes <= MAX_ACCESS_BYTES:
            return f"has an access of {size_bytes} bytes, not 1 to {MAX_ACCESS_BYTES}"
        if address + size_bytes > USER_TOP:
            return f"has an address outside user space, which ends at {USER_TOP:#x}"
        return ""


def import_drmemtrace(
    stream: BinaryIO,
    out: Path,
    options: ImportOptions | None = None,
    *,
    name: str = "the input",
    progress: Callable[[int], None] = lambda _: None,
) -> TraceInfo:
    """Turn the view tool's text into a trace of accesses; otherwise as `import_lackey`.

    Raises:
        BadTrace: a line that is none of the tool's, or cannot be; or as `import_lackey`.
    """
    given = replace(options or ImportOptions(), tool=TOOL)
    if given.command is None:
        given = replace(given, command="")
    text = cast("BinaryIO", _AsLackey(stream, name))
    try:
        return import_lackey(text, out, given, name=name, progress=progress)
    except BadTrace as error:
        told = str(error).replace(HOW, "record with: drrun -t drmemtrace -offline -- PROGRAM")
        raise BadTrace(told) from error
