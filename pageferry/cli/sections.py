"""Help in sections: thirty options are a list, five groups of six can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_SECTIONS = "__pageferry_sections__"
_Function = Callable[..., Any]


def section(title: str) -> Callable[[_Function], _Function]:
    """Put the options declared below this decorator under a title of their own."""

    def decorate(function: _Function) -> _Function:
        # Decorators apply from the last to the first: what is declared so far is below.
        declared = getattr(function, "__click_params__", [])
        named = {p.name for names in _sections(function).values() for p in names}
        below = [p for p in reversed(declared) if p.name not in named]
        setattr(function, _SECTIONS, {title: below, **_sections(function)})
        return function

    return decorate


def _sections(function: _Function) -> dict[str, list[click.Parameter]]:
    found: dict[str, list[click.Parameter]] = getattr(function, _SECTIONS, {})
    return found


def in_sections(command: click.Command, *titles: str) -> list[click.Parameter]:
    """The options of a command that stand under some of its titles."""
    sections = _sections(command.callback) if command.callback else {}
    return [param for title in titles for param in sections[title]]


class SectionedCommand(click.Command):
    """A command whose help shows the sections of its options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every section, and what belongs to none at the end."""
        sections = _sections(self.callback) if self.callback else {}
        placed = {p.name for params in sections.values() for p in params}
        rest = [p for p in self.get_params(ctx) if p.name not in placed]
        for title, params in [*sections.items(), ("Other options", rest)]:
            records = [record for p in params if (record := p.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)
