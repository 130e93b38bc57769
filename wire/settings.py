"""Dataclasses of settings as messages of the contract: every field by its name.

A field of a message is called as the dataclass's, or ``no_`` and its name where a switch is on
unless it is switched off. An enum's number stands for the member of the same name. What a
message leaves out (0, empty, UNSPECIFIED) is the dataclass's default.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from paging_core.errors import BadOption

_Settings = TypeVar("_Settings")
_NO = "no_"
_UNSPECIFIED = "UNSPECIFIED"


def put(settings: Any, message: Message) -> None:
    """Write a dataclass into a message; None and what the message has no field for are left out."""
    for field in dataclasses.fields(settings):
        value, there = getattr(settings, field.name), _field(message.DESCRIPTOR, field.name)
        if value is None or there is None:
            continue
        if there.message_type is not None:
            put(value, getattr(message, there.name))
        elif there.enum_type is not None:
            setattr(message, there.name, _number(there.enum_type, value))
        else:
            setattr(message, there.name, (not value) if there.name != field.name else value)


def fields_of(cls: Any, message: Message) -> dict[str, Any]:
    """What a message says of a dataclass, as its arguments.

    Raises:
        BadOption: an enum's number that has no name here, or a part that cannot be.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        there = _field(message.DESCRIPTOR, field.name)
        if there is None:
            continue
        value = getattr(message, there.name)
        if there.message_type is not None:
            found[field.name] = taken(_type(cls, field.name), value)
        elif there.name != field.name:
            found[field.name] = not value
        elif _says_something(message, there, value) or _is_required(field):
            found[field.name] = _value(cls, field.name, there, value)
    return found


def taken(cls: type[_Settings], message: Message) -> _Settings:
    """The dataclass that a message describes.

    Raises:
        InvalidInput: values that cannot be.
    """
    return cls(**fields_of(cls, message))


def _says_something(message: Message, field: FieldDescriptor, value: Any) -> bool:
    return message.HasField(field.name) if field.has_presence else bool(value)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(cls: Any, name: str, there: FieldDescriptor, value: Any) -> Any:
    if there.enum_type is None:
        return value
    member = there.enum_type.values_by_number.get(value)
    if member is None:
        raise BadOption(
            f"{there.enum_type.name} {value} is none that this host knows; see "
            f"{there.enum_type.file.name.rpartition('/')[2]}"
        )
    enum: type[StrEnum] = _type(cls, name)
    return enum[member.name.removeprefix(_prefix(there.enum_type))]


def _field(message: Any, name: str) -> FieldDescriptor | None:
    there: FieldDescriptor | None = message.fields_by_name.get(name) or message.fields_by_name.get(
        _NO + name
    )
    return there


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix(_UNSPECIFIED)


def _number(enum: EnumDescriptor, member: StrEnum) -> int:
    number: int = enum.values_by_name[_prefix(enum) + member.name].number
    return number


@cache
def _type(cls: Any, field: str) -> Any:
    """The class of a field, without the None that it may be instead."""
    hint = get_type_hints(cls)[field]
    return next((one for one in get_args(hint) if one is not type(None)), hint)
