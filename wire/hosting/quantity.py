"""Values of settings and options: quantities with a unit, and lists of names."""

from __future__ import annotations

import re
from collections.abc import Callable

import click

from paging_core.errors import PageferryError
from paging_core.units import parse_duration_ns, parse_memory_bytes, parse_size_bytes


class Quantity(click.ParamType[int]):
    """A number with a unit as the integer that the model counts in."""

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
        except PageferryError as error:
            self.fail(str(error), param, ctx)


SIZE = Quantity("size", parse_size_bytes)
"""Bytes, such as ``64KiB``."""
MEMORY = Quantity("size", parse_memory_bytes)
"""Bytes of guest memory: a whole number of frames."""
DURATION = Quantity("duration", parse_duration_ns)
"""Nanoseconds, such as ``300ms``."""


class Names(click.ParamType[frozenset[str]]):
    """Names with commas between them."""

    name = "names"

    def convert(
        self,
        value: str | frozenset[str],
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> frozenset[str]:
        """Split; blanks around a name do not count."""
        if isinstance(value, frozenset):
            return value
        return frozenset(name for name in re.split(r"\s*,\s*", value.strip()) if name)


NAMES = Names()
"""Names such as ``rack1, rack2``."""
