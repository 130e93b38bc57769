"""Command-line options with a unit, such as ``256MiB`` or ``300ms``."""

from __future__ import annotations

from collections.abc import Callable

import click

from paging_core.errors import PageferryError


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
