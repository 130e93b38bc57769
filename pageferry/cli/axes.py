"""The axes of a sweep are settings of a migration: one declaration for both."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageferry.settings import AXES
from pageferry.sweep.grid import Settings, Value
from paging_core.errors import BadOption, InvalidInput
from paging_core.kinds import Flag, Text
from paging_core.settings import Setting

if TYPE_CHECKING:
    from pageferry.request import MigrationOptions


def options_of(settings: Settings, base: Path) -> MigrationOptions:
    """What is migrated, how; not yet checked as a whole.

    Args:
        settings: by axis.
        base: directory from which files are named.

    Raises:
        BadOption: a value that its axis cannot have.
    """
    from pageferry.request import MigrationOptions

    return MigrationOptions(
        {AXES[axis].name: _value(AXES[axis], value, base) for axis, value in settings.items()}
    )


def _value(setting: Setting, value: Value, base: Path) -> Any:
    if _is_file(setting, value):
        return str(_file(value, base))
    if isinstance(setting.kind, Flag) is not isinstance(value, bool):
        if isinstance(value, bool):
            raise BadOption(
                f"{setting.axis} = {str(value).lower()} cannot be; see {setting.option}"
            )
        raise BadOption(f"{setting.axis} is true or false, not {value!r}")
    if isinstance(value, bool):
        return value
    try:
        return setting.kind.parse(str(value))
    except InvalidInput as error:
        raise BadOption(f"{setting.axis} = {value}: {error}") from error


def _is_file(setting: Setting, value: Value) -> bool:
    kind = setting.kind
    return isinstance(kind, Text) and kind.is_file and not kind.no_file(str(value))


def _file(value: Value, base: Path) -> Path:
    return (base / str(value)).resolve()


def command_of(settings: Settings, base: Path) -> str:
    """The command that runs this point alone."""
    words = ["pageferry", "migrate"]
    for axis, setting in AXES.items():
        given = settings.get(axis)
        if given is None:
            continue
        if isinstance(setting.kind, Flag):
            if bool(given) is not setting.is_on:
                words.append(setting.option)
        else:
            value = _shown(_file(given, base)) if _is_file(setting, given) else str(given)
            words += [setting.option, value]
    return shlex.join(words)


def _shown(path: Path) -> str:
    """A path as a user in this directory would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
