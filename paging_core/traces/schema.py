"""What a trace is on disk: the one place that names its columns, their units, its version.

A trace is a Parquet file. A row says: within one window of instructions, the program made
`accesses` reads (instruction fetches among them) or writes to one page, the first of them
at `instruction`.

    column        type    unit
    instruction   int64   instructions executed when it happened, its own included; ascending
    page          int64   virtual address >> 12, 0 … 2**35 - 1
    accesses      int32   reads, or writes, in this window, from 1
    write         bool    they wrote

What holds for the whole trace is JSON under the key ``pageferry.trace`` of the file's
metadata: ``version`` and the fields of `TraceInfo`. Rows are in groups of up to `MOST_GROUP_ROWS`;
a reader needs one of them at a time.

Version 1 counts time in instructions and has no `counts`; version 2 says what it counts. Traces
are written as the lowest version that can say what they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
import xxhash

from paging_core.errors import BadTrace
from paging_core.reading import BadText, parse_json
from paging_core.text import printable
from paging_core.traces.kernels.replay_ops import Columns
from paging_core.units import FRAME_SHIFT, PS_PER_NS
from paging_core.workloads.ops import USER_TOP
from paging_core.workloads.pacing import MAX_GAP_PS

VERSIONS = (1, 2)
"""Of the columns and of the metadata; a reader refuses any other."""
INSTRUCTIONS, ACCESSES = "instructions", "accesses"
"""What time can be counted in."""
MOST_GROUP_ROWS = 1 << 22
"""Rows of a group that a reader takes, some 90 MB: a few bytes of Parquet can claim any number."""
MOST_ACCESSES_PER_INSTRUCTION = 16
"""Loads and stores: more than programs make, whose string instructions lackey counts step by step.
Where there are more, instructions were left out of the text, and with them the time."""
METADATA_KEY = b"pageferry.trace"
SCHEMA = pa.schema(
    [
        pa.field("instruction", pa.int64(), nullable=False),
        pa.field("page", pa.int64(), nullable=False),
        pa.field("accesses", pa.int32(), nullable=False),
        pa.field("write", pa.bool_(), nullable=False),
    ]
)
PAGES_TOP = USER_TOP >> FRAME_SHIFT
_PS_PER_S = 10**12
_MOST_COUNTED = 2**62


@dataclass(frozen=True)
class TraceInfo:
    """What holds for a whole trace.

    Attributes:
        tool: that recorded it.
        command: that was traced; empty if unknown.
        instructions: that the program executed.
        reads: accesses that load or fetch; one that crosses into a second page counts once
            here and in two rows.
        writes: accesses that store or modify.
        window_instructions: accesses are collapsed within windows of so many instructions.
        instructions_per_second: of guest time when it is replayed.
        columns_xxh3: XXH3-64 of each column's values one after the other, little-endian, a
            byte for a bool; hexadecimal, by name.
        counts: what `instruction`, `instructions` and the like count: instructions, or accesses
            of a program whose instructions were not recorded.
    """

    tool: str
    command: str
    instructions: int
    reads: int
    writes: int
    window_instructions: int
    instructions_per_second: int
    columns_xxh3: dict[str, str]
    counts: str = INSTRUCTIONS

    @property
    def ps_per_instruction(self) -> int:
        """Guest time that an instruction takes, picoseconds."""
        return _PS_PER_S // self.instructions_per_second

    @property
    def max_gap_instructions(self) -> int:
        """The most that may lie between two rows, so that one operation can wait as long."""
        return MAX_GAP_PS // self.ps_per_instruction

    @property
    def lap_ps(self) -> int:
        """Guest time that all of it takes, picoseconds."""
        return self.instructions * self.ps_per_instruction

    @property
    def without_time(self) -> str:
        """Why it cannot be replayed: nothing says how fast the program went; empty if it can."""
        data = self.reads + self.writes - self.instructions
        if data > MOST_ACCESSES_PER_INSTRUCTION * self.instructions:
            return (
                f"has {self.instructions:,} instructions (lines of I) for {data:,} loads and "
                "stores, so it has no time: record it with them, or say how fast it goes, such as "
                "100 M accesses a second, with: pageferry trace import lackey --pace 100M"
            )
        if self.lap_ps < PS_PER_NS:
            return (
                f"takes {self.lap_ps} ps at {self.instructions_per_second:,} {self.counts} a "
                "second, and a lap takes 1 ns at least; record more, or have it replayed slower, "
                "with: pageferry trace import lackey --instructions-per-second (or --pace)"
            )
        return ""

    def to_metadata(self) -> bytes:
        """The JSON that the file carries."""
        document = {"version": 1, **asdict(self)}
        if self.counts == INSTRUCTIONS:
            del document["counts"]  # as version 1, which every pageferry reads
        else:
            document["version"] = 2
        return json.dumps(document).encode()

    @classmethod
    def from_metadata(cls, text: bytes) -> TraceInfo:
        """What `to_metadata` wrote.

        Raises:
            BadTrace: another version, or not what this version writes.
        """
        document = _json(text)
        version = document.pop("version", None)
        if version not in VERSIONS or isinstance(version, bool):
            found, known = printable(str(version))[:40], " and ".join(map(str, VERSIONS))
            raise BadTrace(
                f"it is a trace of version {found}, and this pageferry reads {known}; import it "
                "again with this one"
            )
        if version == 1:
            document.setdefault("counts", INSTRUCTIONS)
        if {name: type(value) for name, value in document.items()} != _TYPES:
            raise BadTrace("its description is damaged; import it again")
        info = cls(**document)
        counts = (info.instructions, info.reads, info.writes, info.window_instructions)
        if (
            not 0 <= min(counts) <= max(counts) < _MOST_COUNTED
            or not 1 <= info.instructions_per_second <= _PS_PER_S
            or info.counts not in (INSTRUCTIONS, ACCESSES)
        ):
            raise BadTrace("its description holds impossible numbers; import it again")
        return info


_JSON_TYPES = {"int": int, "str": str, "dict[str, str]": dict}
_TYPES = {f.name: _JSON_TYPES[str(f.type)] for f in fields(TraceInfo)}


class ColumnDigests:
    """Of all columns, a row group after the other."""

    def __init__(self) -> None:
        self._digests = [(name, xxhash.xxh3_64()) for name in SCHEMA.names]

    def update(self, columns: Columns) -> None:
        """Take in the next rows."""
        for name, digest in self._digests:
            digest.update(getattr(columns, name).data)

    def by_name(self) -> dict[str, str]:
        """As `TraceInfo.columns_xxh3` has them."""
        return {name: digest.hexdigest() for name, digest in self._digests}


def _json(text: bytes) -> dict[str, Any]:
    try:
        document = parse_json(text)
    except BadText:
        document = None
    if not isinstance(document, dict):
        raise BadTrace("its description is damaged; import it again")
    return document
