"""Files that users and peers write, read without surprises: text, JSON and TOML.

Whatever can be wrong with one (not there, a pipe that nobody writes into, a gigabyte, another
encoding, brackets without end, numbers that no float holds) is one error of one line that names
the file; never an exception of whichever library met it first.
"""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from paging_core.errors import BadOption, PageferryError
from paging_core.text import shown

MOST_BYTES = 16 << 20
"""Of a JSON file: the result of a migration of 10,000 rounds has six million bytes."""
MOST_TOML_BYTES = 1 << 20
"""TOML is written by hand."""
_MOST_INTEGER = 2**64
"""Every number that pageferry writes is smaller, and any float or counter holds it."""

Raising = Callable[[str], PageferryError]
"""Makes the error from its line."""


class BadText(ValueError):
    """A text that is not what it should be; its message says why, to stand behind its name."""


def read_json(path: Path, raising: Raising = BadOption, *, way_out: str = "") -> Any:
    """The value that a file of JSON holds.

    Numbers are finite, integers below 2**64, and no name stands twice in one object.

    Args:
        path: of the file.
        raising: the error to raise.
        way_out: ends the error's line: what to do about a file that is no JSON.

    Raises:
        PageferryError: of the kind asked for, if it cannot be read or is something else.
    """
    content = read_bytes(path, raising, MOST_BYTES)
    return _parsed(parse_json, content, path, "JSON", raising, way_out)


def read_toml(path: Path, raising: Raising = BadOption, *, way_out: str = "") -> dict[str, Any]:
    """The table that a file of TOML holds, whose numbers may be infinite; otherwise `read_json`."""
    content = read_bytes(path, raising, MOST_TOML_BYTES)
    table: dict[str, Any] = _parsed(_parse_toml, content, path, "TOML", raising, way_out)
    return table


def read_bytes(path: Path, raising: Raising = BadOption, most_bytes: int = MOST_BYTES) -> bytes:
    """All bytes of a regular file that is not larger than it may be.

    Raises:
        PageferryError: of the kind asked for.
    """
    name = shown_path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise raising(f"cannot read {name}: it is a directory; name a file in it")
        if not stat.S_ISREG(mode):  # opening it may wait for ever, and reading it never end
            raise raising(f"cannot read {name}: it is a pipe or a device; name a regular file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise raising(f"cannot read {name}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in its name
        raise raising(f"cannot read {name}: {error}") from error
    if len(content) > most_bytes:
        raise raising(f"{name} is larger than {most_bytes >> 20} MiB, which none of its kind is")
    return content


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text, as `read_json` takes it.

    Raises:
        BadText: it is none.
    """
    try:
        text = content if isinstance(content, str) else content.decode()
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except _PARSING as error:
        raise BadText(_reason(error)) from error


def shown_path(path: Path) -> str:
    """A path for an error's line; the shell escapes what is unprintable in it."""
    return str(path)


def _parse_toml(content: bytes) -> Any:
    try:
        return tomllib.loads(content.decode())
    except _PARSING as error:
        raise BadText(_reason(error)) from error


_PARSING = (ValueError, RecursionError, MemoryError, OverflowError, LookupError)


def _parsed(
    parse: Callable[[bytes], Any],
    content: bytes,
    path: Path,
    kind: str,
    raising: Raising,
    way_out: str,
) -> Any:
    try:
        return parse(content)
    except BadText as error:
        end = f"; {way_out}" if way_out else ""
        raise raising(f"{shown_path(path)} is not {kind} ({error}){end}") from error


def _reason(error: BaseException) -> str:
    match error:
        case UnicodeDecodeError():
            return f"no UTF-8 at byte {error.start}"
        case RecursionError():
            return "nested too deeply"
        case MemoryError():
            return "too large"
        case ValueError() if "integer string conversion" in str(error):
            return "a number of too many digits"  # Python's own text advises what a user cannot do
        case _:
            return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadText(f"{shown(name)} stands twice in one object")
            seen.add(name)
    return made


def _no_constant(word: str) -> NoReturn:
    raise BadText(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not abs(number) < float("inf"):
        raise BadText(f"{shown(text)} is not a finite number")
    return number


def _integer(text: str) -> int:
    if len(text) > 21 or not abs(number := int(text)) < _MOST_INTEGER:
        raise BadText(f"{shown(text)} is too large a number")
    return number
