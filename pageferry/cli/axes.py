"""The axes of a sweep are the options of ``pageferry migrate``: one declaration for both."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pageferry.cli.migrate import migrate
from pageferry.sweep.grid import Settings, Value
from paging_core.errors import BadOption

if TYPE_CHECKING:
    from pageferry.request import MigrationOptions

_NO_AXES = (
    "guest", "source", "dest", "tls", "insecure", "json_target", "flow", "quiet", "no_progress",
    "clock",
)  # fmt: skip
_FILES = ("trace", "costs")
"""Axes whose values are files, found from where they are named."""


@cache
def axes() -> Mapping[str, click.Option]:
    """Every axis: its name, and the option of ``pageferry migrate`` that it is made of.

    A switch that turns something off is the axis of that something: ``--no-suppress`` is
    ``suppress = false``.
    """
    options = [p for p in migrate.params if isinstance(p, click.Option) and p.name not in _NO_AXES]
    return {_axis(option): option for option in options}


def _axis(option: click.Option) -> str:
    return option.opts[0].removeprefix("--").removeprefix("no-").replace("-", "_")


def _turns_off(option: click.Option) -> bool:
    return option.is_flag and option.opts[0].startswith("--no-")


def options_of(settings: Settings, base: Path) -> MigrationOptions:
    """What is migrated, how; not yet checked as a whole.

    Args:
        settings: by axis.
        base: directory from which files are named.

    Raises:
        BadOption: a value that its axis cannot have.
    """
    from pageferry.request import MigrationOptions

    values: dict[str, Any] = {}
    for axis, option in axes().items():
        given = settings.get(axis)
        value = option.get_default(_context()) if given is None else _given(axis, given, base)
        if _turns_off(option) and given is not None:
            value = not value
        values[str(option.name)] = option.type_cast_value(_context(), value)
    return MigrationOptions(**values)


def _given(axis: str, value: Value, base: Path) -> Value:
    if axis in _FILES:
        return str(_file(value, base))
    option = axes()[axis]
    if option.is_flag:
        if isinstance(value, bool):
            return value
        raise BadOption(f"{axis} is true or false, not {value!r}")
    if isinstance(value, bool):
        raise BadOption(f"{axis} = {str(value).lower()} cannot be; see {option.opts[0]}")
    try:
        option.type_cast_value(_context(), str(value))
    except click.BadParameter as error:
        raise BadOption(f"{axis} = {value}: {error.message}") from error
    return str(value)


def _file(value: Value, base: Path) -> Path:
    return (base / str(value)).resolve()


def command_of(settings: Settings, base: Path) -> str:
    """What a person types to run this point alone."""
    words = ["pageferry", "migrate"]
    for axis, option in axes().items():
        given = settings.get(axis)
        if given is None:
            continue
        if option.is_flag:
            if bool(given) != _turns_off(option):
                words.append(option.opts[0])
        else:
            value = _shown(_file(given, base)) if axis in _FILES else str(given)
            words += [option.opts[0], value]
    return shlex.join(words)


def _shown(path: Path) -> str:
    """A path as a person here would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@cache
def _context() -> click.Context:
    return click.Context(migrate)
