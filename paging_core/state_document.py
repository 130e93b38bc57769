"""Reading a document of another host: every member, its type and its range, or refused.

What goes wrong is one line that names the member; nothing in it is trusted, and
of its text at most a few characters are repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from paging_core.costs import CostTable
from paging_core.errors import InvalidInput

MAX_BYTES = 1 << 20
"""No guest's state is nearly as long; what is longer is not even parsed."""
MAX_CHARS = 4096
"""Of one text: a workload's spec, the name of a trace."""
_SHOWN = 40
_OF_INTERVAL = 3
_LEAST, _MOST = -(2**63), 2**63 - 1

_Made = TypeVar("_Made")


def parse_document(text: bytes) -> Any:
    """What JSON says.

    Raises:
        InvalidInput: too long, too deep, not JSON, not UTF-8, NaN, or a member that is there twice.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInput(
            f"a guest state of {len(text)} bytes; none is longer than {MAX_BYTES}, migrate it again"
        )
    try:
        return json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else "not JSON"
        raise InvalidInput(
            f"these {len(text)} bytes are no guest state ({why}); migrate it again"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_number(_name: str) -> NoReturn:
    raise ValueError("not a number")


def cut(value: object) -> str:
    """A value for display: on one line, and not more of it than helps."""
    if isinstance(value, int) and not isinstance(value, bool) and not _LEAST <= value <= _MOST:
        return "a number beyond 64 bits"
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    elif isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidInput(f"guest state in which {where} {why}; migrate it again")


def members(value: Any, where: str, names: Iterable[str]) -> dict[str, Any]:
    """A table with exactly these members.

    Raises:
        InvalidInput: it is none, or lacks one, or has another.
    """
    if not isinstance(value, dict):
        _refuse(where, f"is {cut(value)} and no table")
    for name in names:
        if name not in value:
            _refuse(where, f"lacks {name}")
    for name in value:
        if name not in names:
            _refuse(where, f"has {cut(name)}, which this host does not know")
    return value


def integer(value: Any, where: str) -> int:
    """A whole number of 64 bits.

    Raises:
        InvalidInput: it is none.
    """
    if type(value) is not int or not _LEAST <= value <= _MOST:
        _refuse(where, f"is {cut(value)} and no whole number of 64 bits")
    return value


def integers(value: Any, count: int, where: str) -> list[int]:
    """So many of them.

    Raises:
        InvalidInput: they are none, or another number of them.
    """
    if not isinstance(value, list) or len(value) != count:
        _refuse(where, f"is {cut(value)} and no list of {count}")
    return [integer(one, where) for one in value]


def read(kind: type[_Made], value: Any, where: str) -> _Made:
    """A dataclass of whole numbers, texts, switches, choices and other dataclasses.

    Raises:
        InvalidInput: a member is missing, too many, of another type, or a value cannot be.
    """
    hints = get_type_hints(kind)
    given = members(value, where, hints)
    return kind(**{name: _value(hints[name], given[name], f"{where}.{name}") for name in hints})


def _value(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, UnionType):
        inner = next(one for one in get_args(kind) if one is not type(None))
        return None if value is None else _value(inner, value, where)
    if kind is CostTable:
        return _prices(value, where)
    if is_dataclass(kind):
        return read(kind, value, where)  # type: ignore[arg-type]
    if kind is int:
        return integer(value, where)
    if kind is bool:
        return _switch(value, where)
    text = _text(value, where)
    return _choice(kind, text, where) if issubclass(kind, StrEnum) else text


def _switch(value: Any, where: str) -> bool:
    if type(value) is not bool:
        _refuse(where, f"is {cut(value)}, not true or false")
    return value


def _prices(value: Any, where: str) -> CostTable:
    if not isinstance(value, dict):
        _refuse(where, f"is {cut(value)} and no table")
    charged: dict[str, float] = {}
    spans: dict[str, tuple[float, float]] = {}
    for name, given in value.items():
        prices = given if isinstance(given, list) and len(given) == _OF_INTERVAL else [given]
        for price in prices:
            if type(price) not in {int, float}:
                _refuse(f"{where}.{cut(name)}", f"is {cut(price)} and no number")
        charged[_text(name, where)] = prices[len(prices) // 2]
        if len(prices) > 1:
            spans[name] = (prices[0], prices[-1])
    return CostTable(charged, spans)


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        _refuse(where, f"is {cut(value)} and no text")
    if len(value) > MAX_CHARS:
        _refuse(where, f"has {len(value)} characters")
    if any("\ud800" <= char <= "\udfff" for char in value):
        _refuse(where, "is no Unicode text")
    return value


def _choice(kind: type[StrEnum], text: str, where: str) -> StrEnum:
    if text not in [str(one) for one in kind]:
        _refuse(where, f"is {cut(text)}, not one of {', '.join(kind)}")
    return kind(text)
