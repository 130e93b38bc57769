"""What an import of lackey's text must give, said as simply as it can be said."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from paging_core.traces.lackey import ImportOptions, import_lackey

MOST_ROWS_IN_A_WINDOW = 2047
"""A window that would make more is a window that ends early."""


class Row(NamedTuple):
    """A row of a trace."""

    instruction: int
    page: int
    accesses: int
    write: bool


class Access(NamedTuple):
    """A line of lackey's: kind is I, L, S or M."""

    kind: str
    address: int
    size_bytes: int

    def line(self) -> str:
        letter = "I " if self.kind == "I" else f" {self.kind}"
        return f"{letter} {self.address:08x},{self.size_bytes}\n"


def rows_of(
    accesses: Iterable[Access], window_instructions: int, *, paced: bool = False
) -> list[Row]:
    """One row per window, page and kind, in the order in which they begin."""
    rows: dict[tuple[int, int, bool], Row] = {}
    instruction = 0
    for kind, address, size_bytes in accesses:
        instruction += paced or kind == "I"
        write = kind in "SM"
        for page in sorted({address // 4096, (address + size_bytes - 1) // 4096}):
            key = (instruction // window_instructions, page, write)
            first, _, count, _ = rows.get(key, Row(instruction, page, 0, write))
            rows[key] = Row(first, page, count + 1, write)
    return list(rows.values())


def import_text(text: bytes | str, out: Path, window: int = 10, speed: int = 10**9) -> list[Row]:
    """Import, and read the file with nothing but the Parquet library."""
    raw = text if isinstance(text, bytes) else text.encode()
    options = ImportOptions(window_instructions=window, instructions_per_second=speed)
    import_lackey(BytesIO(raw), out, options, name="text")
    return rows_in(out)


def rows_in(out: Path) -> list[Row]:
    """The rows of a trace, by nothing but the Parquet library."""
    table = pq.read_table(out)
    columns = [table.column(name).to_pylist() for name in Row._fields]
    return [Row(*values) for values in zip(*columns, strict=True)]
