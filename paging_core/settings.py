"""Settings of a migration, each declared once, at the field that holds it.

`GuestConfig` (with the tracker and its groups) and the source host's `Plan` declare their
fields with `setting`. From these declarations come the options of the command line, the axes
of grids, the request on the wire, the configuration in a result document with its schema, the
columns and join keys of tables, and docs/settings.md. Nothing else lists settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_type_hints

from paging_core.kinds import Choice, Flag, Kind

_KEY = "pageferry-setting"
_UNITS = ("_bits_per_s", "_bytes", "_ns")
_Declaring = TypeVar("_Declaring")


class Role(StrEnum):
    """How a setting counts when runs are compared."""

    LOAD = "load"
    """What the guest runs. Runs of unlike loads are never added up."""
    REPETITION = "repetition"
    """Another of the same: a mean and a spread, never a sum."""
    SURROUNDINGS = "surroundings"
    """Where it ran. Unlike surroundings are told apart by name, never added up."""
    REMEDY = "remedy"
    """What was done about the faults: the axis that is in question."""


class Section(StrEnum):
    """Settings that --help and docs/settings.md show together, in this order."""

    GUEST = "The guest"
    TRACKING = "How its writes are tracked"
    MIGRATION = "The migration"
    LINK = "Clock and link"


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: in documents and tables; ends in its unit.
        kind: what it may be.
        default: as a user writes it; None when something else decides.
        role: in a comparison.
        section: of the help and the docs.
        help: of the option.
        shown: what a document says of the field; `help` when empty.
        paging: the only kind of paging that has it; empty for both.
        since: version of pageferry.
        is_option: a user can set it; otherwise documents only show it.
        otherwise: what --help says instead of a default that is None.
        nullable: a document may hold null.
        read: the document's value, of the object that declares it and of the whole.
        write: fields of the declaring object, of a user's value.
        title: in the head of a table; the axis's words when empty.
        words: its value in words that name the setting as well, `{}` where it stands; title and
            value when empty.
        plain: of a remedy, by all settings of a run: the value of single pages and nothing else;
            its default when None.
        part: its default is a part of the hypervisor, by its name in `paging_core.config.Parts`.
        field: of the declaring object.
        path: fields that lead to the declaring object from the whole.
    """

    name: str
    kind: Kind
    default: str | None
    role: Role
    section: Section
    help: str
    shown: str
    paging: str
    since: str
    is_option: bool
    otherwise: str
    nullable: bool
    read: Callable[[Any, Any], Any] | None
    write: Callable[[Any], Mapping[str, Any]] | None
    title: str = ""
    words: str = ""
    plain: Callable[[Mapping[str, Any]], Any] | None = None
    part: str = ""
    field: str = ""
    path: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """Its name in texts."""
        return self.title or self.axis.replace("_", " ")

    @property
    def axis(self) -> str:
        """Its name in a grid: without the unit, which a user writes with the value."""
        for unit in _UNITS:
            if self.name.endswith(unit):
                return self.name.removesuffix(unit)
        return self.name

    @property
    def option(self) -> str:
        """Its option; what is on unless it is switched off has one that switches it off."""
        return ("--no-" if self.is_on else "--") + self.axis.replace("_", "-")

    @property
    def is_on(self) -> bool:
        """Whether it is a switch that is on by default."""
        return isinstance(self.kind, Flag) and self.default == "true"

    def default_value(self) -> Any:
        """Its default; None when something else decides."""
        return None if self.default is None else self.kind.parse(self.default)

    def fields(self, value: Any) -> Mapping[str, Any]:
        """What to give the declaring class for a user's value."""
        if isinstance(self.kind, Choice):
            value = self.kind.of(value)
        return {self.field: value} if self.write is None else self.write(value)

    def value(self, owner: Any, whole: Any) -> Any:
        """What a document shows."""
        if self.read is not None:
            return self.read(owner, whole)
        value = getattr(owner, self.field)
        return value.value if isinstance(value, StrEnum) else value

    def schema(self) -> dict[str, Any]:
        """Of the document's field, as JSON Schema."""
        schema = self.kind.schema()
        if self.nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        return {"description": self.shown or self.help, **schema}


def setting(
    name: str,
    kind: Kind,
    default: str | None,
    role: Role,
    section: Section,
    help: str,  # noqa: A002 - as click calls it
    *,
    shown: str = "",
    paging: str = "",
    since: str = "0.1",
    is_option: bool = True,
    otherwise: str = "",
    nullable: bool = False,
    read: Callable[[Any, Any], Any] | None = None,
    write: Callable[[Any], Mapping[str, Any]] | None = None,
    title: str = "",
    words: str = "",
    plain: Callable[[Mapping[str, Any]], Any] | None = None,
    part: str = "",
    required: bool = False,
    field_default: Any = dataclasses.MISSING,
    field_factory: Any = dataclasses.MISSING,
) -> Any:
    """A dataclass field that is a setting; see `Setting` for the arguments.

    Args:
        required: code that makes the class must name it, though a user need not.
        field_default, field_factory: what the class has without it, where that is not what a
            person's default reads as.
    """
    declared = Setting(
        name, kind, default, role, section, help, shown, paging, since, is_option, otherwise,
        nullable, read, write, title, words, plain, part,
    )  # fmt: skip
    if field_default is field_factory and not required:  # neither was given
        field_default = declared.default_value()
    return dataclasses.field(
        default=field_default, default_factory=field_factory, metadata={_KEY: declared}
    )


@cache
def settings_of(cls: Any, path: tuple[str, ...] = ()) -> tuple[Setting, ...]:
    """Every setting of a dataclass and of the dataclasses within it, in declared order."""
    return tuple(_settings(cls, path))


def _settings(cls: Any, path: tuple[str, ...]) -> Iterator[Setting]:
    for field in dataclasses.fields(cls):
        declared = field.metadata.get(_KEY)
        if declared is not None:
            yield dataclasses.replace(declared, field=field.name, path=path)
        elif (inner := _inner(cls, field.name)) is not None:
            yield from settings_of(inner, (*path, field.name))


@cache
def _inner(cls: Any, field: str) -> Any:
    """The dataclass that a field holds, None for a field of another type."""
    hint = get_type_hints(cls)[field]
    choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next((one for one in choices if dataclasses.is_dataclass(one)), None)


def made(cls: type[_Declaring], values: Mapping[str, Any]) -> _Declaring:
    """An instance of a declaring class, from values by setting; the rest has its defaults.

    Raises:
        InvalidInput: values that cannot be, or not together.
    """
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        declared = field.metadata.get(_KEY)
        if declared is not None:
            if values.get(declared.name) is not None:
                one = dataclasses.replace(declared, field=field.name)
                fields.update(one.fields(values[declared.name]))
            continue
        inner = _inner(cast("Any", cls), field.name)
        if inner is not None and _names_any(inner, values):
            fields[field.name] = made(inner, values)
    return cls(**fields)


def _names_any(cls: Any, values: Mapping[str, Any]) -> bool:
    return any(values.get(one.name) is not None for one in settings_of(cls))


def values_of(whole: Any) -> dict[str, Any]:
    """Every setting of an instance by name, as a document shows it."""
    return {one.name: _value(one, whole) for one in settings_of(cast("Any", type(whole)))}


def _value(one: Setting, whole: Any) -> Any:
    owner = whole
    for field in one.path:
        owner = getattr(owner, field)
        if owner is None:
            return None  # a part that does not exist, such as a link on the real clock
    return one.value(owner, whole)
