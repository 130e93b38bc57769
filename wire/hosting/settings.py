"""Settings of a service: one model, filled from defaults, a TOML file, the environment and flags.

A service declares a frozen dataclass whose fields are made by `setting`. `from_settings` turns
it into the options of a command, each of them also a key of the file that ``--config`` names
and a variable of the environment. What comes later in that order wins.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from paging_core.errors import BadOption
from paging_core.reading import read_toml
from paging_core.text import shown
from wire.hosting.quantity import Names

_Settings = TypeVar("_Settings")
_Command = Callable[..., Any]
_KEY = "pageferry-setting"
_RAW = "pageferry.settings.raw"
_FILE = "pageferry.settings.file"


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: of the dataclass's field.
        text: the default as users write it; None when it is not set.
        kind: reads what users write.
        help: what it is for, a sentence or two.
        metavar: what stands for its value in --help.
    """

    name: str
    text: str | None
    kind: click.ParamType[Any]
    help: str
    metavar: str | None = None

    @property
    def key(self) -> str:
        """Its name in a file, and after ``--``."""
        return self.name.replace("_", "-")

    def variable(self, prefix: str) -> str:
        """Its name in the environment."""
        return f"{prefix}_{self.name.upper()}"


def setting(text: str | None, kind: click.ParamType[Any], help: str, **more: Any) -> Any:  # noqa: A002
    """A field of a settings class; its default is `text`, read as `kind` reads it."""
    default = None if text is None else kind.convert(text, None, None)
    made = Setting("", text, kind, help, **more)
    return dataclasses.field(default=default, metadata={_KEY: made})


def settings_of(model: type[Any]) -> list[Setting]:
    """The settings of a class, in the order of its fields."""
    return [
        dataclasses.replace(field.metadata[_KEY], name=field.name)
        for field in dataclasses.fields(model)
    ]


def from_settings(
    model: type[_Settings], prefix: str, only: tuple[str, ...] = ()
) -> Callable[[_Command], _Command]:
    """Give a click command the settings of a class; it is called with one instance.

    Args:
        model: the class.
        prefix: of the variables of the environment.
        only: fields that the command needs; all of them when empty.
    """
    wanted = [one for one in settings_of(model) if not only or one.name in only]

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def filled(*, print_config: bool = False, **values: Any) -> Any:
            settings = model(**values)
            if print_config:
                click.echo("\n".join(_printed(wanted, prefix)))
                return None
            return command(settings)

        decorated: _Command = filled
        for one in reversed(wanted):
            decorated = _option(one, prefix)(decorated)
        if not only:
            decorated = _print_option()(decorated)
        return _config_option(settings_of(model), prefix)(decorated)

    return decorate


def _option(one: Setting, prefix: str) -> Callable[[_Command], _Command]:
    flag = isinstance(one.kind, click.types.BoolParamType)
    return click.option(
        f"--{one.key}",
        one.name,
        cls=_SettingOption,
        envvar=one.variable(prefix),
        show_default=one.text is not None and not flag,
        default=one.text == "true" if flag else one.text,
        is_flag=flag,
        type=None if flag else one.kind,
        metavar=None if flag else one.metavar,
        help=one.help,
    )


class _SettingOption(click.Option):
    """Remembers what was written, and says where it was written when it cannot be."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        ctx.meta.setdefault(_RAW, {})[self.name] = value
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            origin = _origin(ctx, self.name, str(self.envvar))
            if origin is None:
                raise  # typed as a flag: click names it
            raise BadOption(f"{origin}: {error.message}") from error


def _origin(ctx: click.Context, name: str, variable: str) -> str | None:
    match ctx.get_parameter_source(name):
        case ParameterSource.ENVIRONMENT:
            return f"environment variable {variable}"
        case ParameterSource.DEFAULT_MAP:
            return f"{ctx.meta[_FILE]}, {name.replace('_', '-')}"
        case _:
            return None


def _config_option(known: list[Setting], prefix: str) -> Callable[[_Command], _Command]:
    def read(ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
        if value is not None:
            ctx.meta[_FILE] = value
            ctx.default_map = _from_file(value, known)
        return value

    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar=f"{prefix}_CONFIG",
        is_eager=True,
        expose_value=False,
        callback=read,
        metavar="FILE",
        help="TOML file of these settings; the environment and flags win over it.",
    )


def _print_option() -> Callable[[_Command], _Command]:
    return click.option(
        "--print-config", is_flag=True, help="Print the settings in effect as TOML, and end."
    )


def _from_file(path: Path, known: list[Setting]) -> dict[str, Any]:
    document = read_toml(path, lambda line: BadOption(f"settings: {line}"))
    names = {one.key: one for one in known}
    for key in document:
        if key not in names:
            close = get_close_matches(key, names, 1)
            hint = f"did you mean {close[0]}?" if close else "--print-config lists them all"
            raise BadOption(f"{path} has a setting {shown(key)} that does not exist; {hint}")
    return {
        names[key].name: _as_typed(f"{path}, {key}", value, names[key].kind)
        for key, value in document.items()
    }


def _as_typed(where: str, value: Any, kind: click.ParamType[Any]) -> Any:
    """As it would have been typed after the flag, so that both are read the same way."""
    match value:
        case dict():
            raise BadOption(f"{where}: it is one value and no table")
        case bool() if not isinstance(kind, click.types.BoolParamType):
            raise BadOption(f"{where}: it is neither true nor false; see --help")
        case bool():
            return value
        case list() if not isinstance(kind, Names):
            raise BadOption(f"{where}: it is one value and no list")
        case list() if any(not isinstance(one, str) or "," in one for one in value):
            raise BadOption(f'{where}: a list of names is written like ["rack1", "rack2"]')
        case list():
            return ",".join(value)
        case _:
            return str(value)


def _printed(wanted: list[Setting], prefix: str) -> Iterator[str]:
    ctx = click.get_current_context()
    raw: dict[str, Any] = ctx.meta[_RAW]
    for one in wanted:
        value = raw[one.name]
        origin = _origin(ctx, one.name, one.variable(prefix))
        if origin is None:
            typed = ctx.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
            origin = f"--{one.key}" if typed else "default"
        if value is None:
            yield f"# {one.key} is not set"
        else:
            yield f"{one.key} = {_toml(value)}  # {origin}"


def _toml(value: Any) -> str:
    number = str(value).isdecimal()
    plain = value if isinstance(value, bool) else int(value) if number else str(value)
    return json.dumps(plain, ensure_ascii=False)
