"""Takes a recording among the shipped ones: pack.py FROM TO --asked 400 --reached 398 --unit UNIT.

The same rows, compressed more; paths of this machine become names; the rate that the load reached
and the true lengths of the windows are written beside the means of recording. A recording of a
machine that was too busy is refused: of less than SHARE of the rate, or with windows longer than
LONGER times what was asked for in the middle.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.writer import WrittenPagesWriter

ZSTD_LEVEL = 19
SHARE = 0.8
LONGER = 1.5


def main() -> None:
    """Check it, and write it anew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--asked", type=float, required=True)
    parser.add_argument("--reached", type=float, required=True)
    parser.add_argument("--unit", required=True, help="what the rate counts")
    parser.add_argument("--window-ms", type=float, default=10)
    given = parser.parse_args()
    source = WrittenPagesFile(str(given.source))
    rate = f"{given.reached:,.4g} of {given.asked:,.4g} {given.unit}".replace("e+03", "000")
    lengths_ms = np.array([(one.end_ns - one.start_ns) / 1e6 for one in source.windows()])
    windows = _lengths(lengths_ms)
    print(f"{given.out.stem}: {rate}; {windows}", flush=True)
    if given.reached < SHARE * given.asked:
        sys.exit(f"{given.out.stem}: not taken: below {SHARE:.0%} of its rate")
    if np.median(lengths_ms) > LONGER * given.window_ms:
        sys.exit(f"{given.out.stem}: not taken: its windows are too long; is the machine busy?")
    _write(source, given.out, f"{rate}; {windows}; {os.cpu_count()} cores")


def _lengths(lengths_ms: np.ndarray) -> str:
    """Of the windows in which something was written: the others have no rows."""
    middle, most, longest = np.percentile(lengths_ms, [50, 95, 100])
    return f"windows of {middle:.1f} ms, 95 of 100 at most {most:.1f}, the longest {longest:.1f}"


def _write(source: WrittenPagesFile, out: Path, about: str) -> None:
    described, recording = source.description, source.recording
    known = replace(
        recording,
        command=shlex.join(map(_name, shlex.split(recording.command))),
        how=f"{recording.how}; {about}",
        mappings=tuple(replace(one, name=_name(one.name)) for one in recording.mappings),
    )
    with WrittenPagesWriter(out, zstd_level=ZSTD_LEVEL) as packed:
        for window in source.windows():
            packed.window(window.start_ns, window.end_ns, window.written, window.changed)
        packed.finish(known, described.duration_ns, described.windows)


def _name(text: str) -> str:
    """A path without its directories; `unix:/tmp/x` and `file=/tmp/x` too."""
    return text[: text.index("/")] + text.rpartition("/")[2] if "/" in text else text


if __name__ == "__main__":
    main()
