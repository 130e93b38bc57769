"""The lengths of the windows of a recording."""

from __future__ import annotations

import re

from paging_core.errors import BadOption
from paging_core.units import NS_PER_S, parse_duration_ns

SHORTEST_NS = 1_000_000
LONGEST_NS = 3600 * NS_PER_S


def parse_windows_ns(text: str) -> tuple[int, ...]:
    """Lengths such as ``10ms,100ms``, nanoseconds: one after the other, and then again.

    Raises:
        BadOption: no duration, or one that is shorter than a scan or longer than an hour.
    """
    lengths = tuple(parse_duration_ns(one) for one in re.split(r"\s*,\s*", text.strip()))
    for one in lengths:
        if not SHORTEST_NS <= one <= LONGEST_NS:
            raise BadOption(f"a window of {one:,} ns cannot be; from 1ms to 3600s, like 100ms")
    return lengths
