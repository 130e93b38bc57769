"""Options of the command line from the declarations of settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pageferry.cli.sections import section
from pageferry.settings import of_section
from paging_core.errors import InvalidInput
from paging_core.kinds import Choice, Flag, Kind, Memory, Text
from paging_core.settings import Section, Setting
from paging_core.units import parse_count
from wire.hosting.quantity import Quantity

COUNT = Quantity("count", parse_count)
MEMORY_BYTES = Quantity("size", Memory().parse)


class OfKind(click.ParamType[Any]):
    """A value that a setting's kind reads."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = (kind.metavar or "value").lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse, or fail with the way out and the option that it is about."""
        if not isinstance(value, str):
            return value
        try:
            return self.kind.parse(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def option_of(setting: Setting) -> click.Option:
    """The option of a setting."""
    return click.Option([setting.option, setting.name], **_attributes(setting))


def _attributes(setting: Setting) -> dict[str, Any]:
    if isinstance(setting.kind, Flag):
        return {"is_flag": True, "default": False, "help": setting.help}
    otherwise = f"  [default: {setting.otherwise}]" if setting.otherwise else ""
    return {
        "type": _type(setting),
        "metavar": setting.kind.metavar,
        "default": setting.default,
        "show_default": setting.default is not None and not otherwise,
        "help": setting.help + otherwise,
    }


def _type(setting: Setting) -> click.ParamType[Any]:
    kind = setting.kind
    if isinstance(kind, Choice):
        return click.Choice([member.value for member in kind.of])
    if isinstance(kind, Text) and kind.is_file:
        return click.Path()
    return OfKind(kind)


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of a migration, section by section."""
    for title in reversed(Section):
        for setting in reversed(of_section(title)):
            decorate = click.option(setting.option, setting.name, **_attributes(setting))
            command = decorate(command)
        command = section(title.value)(command)
    return command
