"""Packs a recording for others: pack.py FILE.parquet RATE.

The same rows, compressed more; paths of this machine become names; what rate was achieved, and on
what machine, is written beside the means of recording.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.writer import WrittenPagesWriter

ZSTD_LEVEL = 19


def main() -> None:
    """Replace the file."""
    path, rate = Path(sys.argv[1]), sys.argv[2]
    source = WrittenPagesFile(str(path))
    described, recording = source.description, source.recording
    known = replace(
        recording,
        command=shlex.join(map(_name, shlex.split(recording.command))),
        how=f"{recording.how}; {rate or 'no rate'}; {os.cpu_count()} cores, busy with other work",
        mappings=tuple(replace(one, name=_name(one.name)) for one in recording.mappings),
    )
    with WrittenPagesWriter(path, zstd_level=ZSTD_LEVEL) as packed:
        for window in source.windows():
            packed.window(window.start_ns, window.end_ns, window.written, window.changed)
        packed.finish(known, described.duration_ns, described.windows)


def _name(text: str) -> str:
    """A path without its directories; `unix:/tmp/x` and `file=/tmp/x` too."""
    return text[: text.index("/")] + text.rpartition("/")[2] if "/" in text else text


if __name__ == "__main__":
    main()
