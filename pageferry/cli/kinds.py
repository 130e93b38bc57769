"""What option values are made of: quantities with units, parsed by paging_core.units."""

from __future__ import annotations

from collections.abc import Callable

import click

from paging_core.errors import BadOption
from paging_core.units import parse_duration_ns, parse_memory_bytes, parse_rate_bits_per_s


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


MEMORY_BYTES = Quantity("size", parse_memory_bytes)
RATE_BITS_PER_S = Quantity("rate", parse_rate_bits_per_s)
DURATION_NS = Quantity("time", parse_duration_ns)
