"""What option values are made of: quantities with units, parsed by paging_core.units."""

from __future__ import annotations

from collections.abc import Callable

from paging_core.errors import BadOption
from paging_core.units import (
    parse_count,
    parse_duration_ns,
    parse_memory_bytes,
    parse_rate_bits_per_s,
)
from wire.quantity import Quantity


def _limited(what: str, most: str, least_ns: int = 0) -> Callable[[str], int]:
    def parse(text: str) -> int:
        duration_ns = parse_duration_ns(text)
        if not least_ns <= duration_ns <= parse_duration_ns(most):
            least = f"{least_ns} ns" if least_ns else "0"
            raise BadOption(f"a {what} of {text} is not between {least} and {most}")
        return duration_ns

    return parse


COUNT = Quantity("count", parse_count)
MEMORY_BYTES = Quantity("size", parse_memory_bytes)
RATE_BITS_PER_S = Quantity("rate", parse_rate_bits_per_s)
LATENCY_NS = Quantity("time", _limited("latency", "10min"))
WARMUP_NS = Quantity("time", _limited("warm-up", "60min"))
DOWNTIME_LIMIT_NS = Quantity("time", _limited("downtime limit", "2000s", least_ns=1))
