"""What option values are made of: quantities with units, parsed by paging_core.units."""

from __future__ import annotations

from collections.abc import Callable

import click

from paging_core.errors import BadOption
from paging_core.units import (
    parse_count,
    parse_duration_ns,
    parse_memory_bytes,
    parse_rate_bits_per_s,
)
from wire.hosting.quantity import Quantity


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


class _GroupPages(click.ParamType[int | str]):
    """A number of pages, or the word for sizes that are learned."""

    name = "pages"

    def convert(
        self, value: int | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """A number or the word."""
        if isinstance(value, int) or value == "adaptive":
            return value
        if not value.isdecimal():
            self.fail(f"{value!r} is neither a number of pages nor adaptive", param, ctx)
        return int(value)


GROUP_PAGES = _GroupPages()
LATENCY_NS = Quantity("time", _limited("latency", "10min"))
WARMUP_NS = Quantity("time", _limited("warm-up", "60min"))
MAX_DOWNTIME_NS = Quantity("time", _limited("longest downtime", "2000s", least_ns=1))
DOWNTIME_LIMIT_NS = Quantity("time", _limited("downtime limit", "2000s", least_ns=1))
