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


class Quantity(click.ParamType[int]):
    """A number with a unit, such as ``256MiB``, as the integer that the model counts in."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse, or fail with the way out and the option that it is about."""
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except BadOption as error:
            self.fail(str(error), param, ctx)


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
