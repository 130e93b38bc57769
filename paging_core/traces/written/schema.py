"""What a trace of written pages is on disk: the one place that names its columns and its version.

A Parquet file. A row says: in one window of time this page was written (or read).

    column            type              unit
    window_start_ns   int64             since the recording began
    window_end_ns     int64             the window is [start, end)
    page              uint64            number of the page in the recorded address space: virtual
                                        address, or guest physical address, ÷ page size
    written           bool              written; false: read
    changed           bool, nullable    its content differs from what stood there when the window
                                        began; null: not measured, and for reads

Rows ascend: by window, within it by page, and for one page the read (false) before the write.
Windows do not overlap, and what lies between two of them, or before the end of the recording
behind the last one, was watched as well: nothing was written there.

What holds for the whole recording is JSON under the key ``pageferry.written-pages`` of the file's
metadata: ``version``, ``duration_ns``, ``windows`` and the fields of `Recording`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from paging_core.errors import BadTrace
from paging_core.reading import BadText, parse_json
from paging_core.text import printable

VERSION = 1
"""Of the columns and of the metadata; a reader refuses any other."""
METADATA_KEY = b"pageferry.written-pages"
SCHEMA = pa.schema(
    [
        pa.field("window_start_ns", pa.int64(), nullable=False),
        pa.field("window_end_ns", pa.int64(), nullable=False),
        pa.field("page", pa.uint64(), nullable=False),
        pa.field("written", pa.bool_(), nullable=False),
        pa.field("changed", pa.bool_(), nullable=True),
    ]
)
PAGE_SIZES = (4 << 10, 64 << 10, 2 << 20)
"""Bytes of a page that a recording can have; everything that is recorded is a multiple."""
MOST_NS = 1 << 53
"""A recording ends by then (104 days), so that its time fits into 63 bits of picoseconds."""
MOST_MAPPINGS = 1 << 16
_ADDRESS_BITS = 64

PROCESS, VM = "process", "vm"
"""What can be recorded: a process, by virtual address; a virtual machine, by guest physical one."""

CHANGED, SAME, NOT_MEASURED = 1, 0, -1
"""What is known of a written page's content; int8 in arrays."""


@dataclass(frozen=True)
class Mapping:
    """A part of the recorded address space that held memory.

    Attributes:
        first_page: number of its first page.
        pages: how many there are, from 1.
        name: what lies there, such as a file or [heap]; may be empty.
    """

    first_page: int
    pages: int
    name: str


@dataclass(frozen=True)
class Recording:
    """What was recorded, and how.

    Attributes:
        recorded: PROCESS (pages are virtual) or VM (pages are guest physical).
        page_bytes: size of a page, one of PAGE_SIZES.
        command: of the process, or of the virtual machine; empty if unknown.
        how: the means, in a few words, for display.
        memory_bytes: of the virtual machine; of a process, what it had mapped; 0: not known.
        mappings: ascending and apart; empty: not known.
    """

    recorded: str
    page_bytes: int = 4096
    command: str = ""
    how: str = ""
    memory_bytes: int = 0
    mappings: tuple[Mapping, ...] = ()

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            BadTrace: a recording that cannot be.
        """
        if self.recorded not in (PROCESS, VM):
            raise BadTrace(f"what was recorded is {PROCESS!r} or {VM!r}")
        if self.page_bytes not in PAGE_SIZES:
            raise BadTrace(f"a page of {self.page_bytes} bytes is none of 4KiB, 64KiB and 2MiB")
        if not 0 <= self.memory_bytes < 1 << _ADDRESS_BITS:
            raise BadTrace("the size of the recorded memory cannot be")
        self._check_mappings()

    def _check_mappings(self) -> None:
        if len(self.mappings) > MOST_MAPPINGS:
            raise BadTrace(f"there are more than {MOST_MAPPINGS} mappings")
        end = 0
        for i, one in enumerate(self.mappings):
            if one.first_page < end or one.pages < 1 or one.first_page + one.pages > self.pages_top:
                raise BadTrace(f"mapping {i} is empty, out of order, or beyond all addresses")
            end = one.first_page + one.pages

    @property
    def frames_per_page(self) -> int:
        """Frames of 4 KiB in a page."""
        return self.page_bytes // PAGE_SIZES[0]

    @property
    def pages_top(self) -> int:
        """Page numbers are below this one."""
        return (1 << _ADDRESS_BITS) // self.page_bytes


@dataclass(frozen=True)
class Description:
    """A recording and its extent.

    Attributes:
        recording: what was recorded.
        duration_ns: how long; the last window ends by then.
        windows: how many there were, those without a page among them.
    """

    recording: Recording
    duration_ns: int
    windows: int

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            BadTrace: there is no time in it, or more than fits.
        """
        if not 1 <= self.duration_ns <= MOST_NS or not 1 <= self.windows <= self.duration_ns:
            raise BadTrace(
                f"{self.windows:,} windows in {self.duration_ns:,} ns cannot be: there is one of "
                "1 ns at least, and 104 days at most"
            )

    def to_metadata(self) -> bytes:
        """The JSON that the file carries."""
        extent = {"duration_ns": self.duration_ns, "windows": self.windows}
        return json.dumps({"version": VERSION, **extent, **asdict(self.recording)}).encode()

    @classmethod
    def from_metadata(cls, text: bytes) -> Description:
        """What `to_metadata` wrote.

        Raises:
            BadTrace: another version, or not what this version writes.
        """
        document = _json(text)
        version = document.pop("version", None)
        if version != VERSION or isinstance(version, bool):
            raise BadTrace(
                f"it holds written pages in version {printable(str(version))[:40]}, and this "
                f"pageferry reads {VERSION}; record or import it again with this one"
            )
        extent = {
            name: _typed(document.pop(name, None), int) for name in ("duration_ns", "windows")
        }
        return cls(_recording(document), **extent)


_TYPES: dict[str, type] = {"str": str, "int": int}


def _recording(document: dict[str, Any]) -> Recording:
    mappings = _typed(document.pop("mappings", None), list)
    if len(mappings) > MOST_MAPPINGS:
        raise _damaged()
    made = tuple(_filled(Mapping, each) for each in mappings)
    recording: Recording = _filled(Recording, document, mappings=made)
    return recording


def _filled(kind: type[Any], document: object, **known: Any) -> Any:
    """One of our dataclasses, if the object has exactly its fields."""
    given = _typed(document, dict)
    types = {one.name: _TYPES[str(one.type)] for one in fields(kind) if one.name not in known}
    if given.keys() != types.keys():
        raise _damaged()
    return kind(**{name: _typed(given[name], of) for name, of in types.items()}, **known)


def _typed(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise _damaged()
    return value


def _json(text: bytes) -> dict[str, Any]:
    try:
        document = parse_json(text)
    except BadText:
        document = None
    made: dict[str, Any] = _typed(document, dict)
    return made


def _damaged() -> BadTrace:
    return BadTrace("its description is damaged; record or import it again")
