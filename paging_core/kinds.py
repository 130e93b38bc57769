"""What a setting may be: how a user writes it, how it is written back, how JSON has it.

A kind reads the text of an option, of an axis or of a grid file, and gives the value in the
unit that the setting's name says. `schema` is what a document holds, as JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from paging_core.errors import BadOption
from paging_core.units import (
    FRAME_BYTES,
    exact_duration,
    exact_rate,
    exact_size,
    parse_duration_ns,
    parse_memory_bytes,
    parse_rate_bits_per_s,
)

Schema = dict[str, Any]
ADAPTIVE = "adaptive"
"""Instead of a number of pages in a group."""


class Kind(Protocol):
    """One sort of value."""

    @property
    def metavar(self) -> str | None:
        """What stands for a value in --help; None for the usual."""

    def parse(self, text: str) -> Any:
        """The value of a text.

        Raises:
            InvalidInput: it is none; the error says what would be.
        """

    def text(self, value: Any) -> str:
        """A text that parses to the value."""

    def schema(self) -> Schema:
        """What a document holds, as JSON Schema."""


@dataclass(frozen=True)
class Memory:
    """Bytes, such as ``256MiB``: a positive multiple of the 4 KiB frame.

    Attributes:
        least_bytes: the smallest that a document can hold.
    """

    least_bytes: int = FRAME_BYTES
    metavar: str | None = "SIZE"

    def parse(self, text: str) -> int:
        """Bytes; see `Kind`."""
        return parse_memory_bytes(text)

    def text(self, value: int) -> str:
        """In the largest unit that divides it."""
        return exact_size(value)

    def schema(self) -> Schema:
        """See `Kind`."""
        return {"type": "integer", "minimum": self.least_bytes, "multipleOf": FRAME_BYTES}


@dataclass(frozen=True)
class BitRate:
    """Bits per second, such as ``1Gbit/s``."""

    metavar: str | None = "RATE"

    def parse(self, text: str) -> int:
        """Bits per second; see `Kind`."""
        return parse_rate_bits_per_s(text)

    def text(self, value: int) -> str:
        """In the largest unit that divides it."""
        return exact_rate(value)

    def schema(self) -> Schema:
        """See `Kind`."""
        return {"type": "integer", "minimum": 1}


@dataclass(frozen=True)
class Duration:
    """Nanoseconds, such as ``300ms``.

    Attributes:
        what: names it in errors.
        most: the longest, as a user writes it.
        least_ns: the shortest.
    """

    what: str
    most: str
    least_ns: int = 0
    metavar: str | None = "TIME"

    def parse(self, text: str) -> int:
        """Nanoseconds; see `Kind`."""
        duration_ns = parse_duration_ns(text)
        if not self.least_ns <= duration_ns <= parse_duration_ns(self.most):
            least = f"{self.least_ns} ns" if self.least_ns else "0"
            raise BadOption(f"a {self.what} of {text} is not between {least} and {self.most}")
        return duration_ns

    def text(self, value: int) -> str:
        """In the largest unit that divides it."""
        return exact_duration(value)

    def schema(self) -> Schema:
        """See `Kind`."""
        return {"type": "integer", "minimum": self.least_ns}


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int
    most: int
    metavar: str | None = "N"

    def parse(self, text: str) -> int:
        """The number; see `Kind`."""
        try:
            value = int(text)
        except ValueError:
            raise BadOption(f"{text!r} is not a whole number") from None
        if not self.least <= value <= self.most:
            raise BadOption(f"{value} is not from {self.least} to {self.most}")
        return value

    def text(self, value: int) -> str:
        """In decimal."""
        return str(value)

    def schema(self) -> Schema:
        """See `Kind`."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Choice:
    """One of the names of an enumeration."""

    of: type[StrEnum]
    metavar: str | None = None

    def parse(self, text: str) -> StrEnum:
        """The member of that name; see `Kind`."""
        try:
            return self.of(text)
        except ValueError:
            raise BadOption(f"{text!r} is not one of {', '.join(self.of)}") from None

    def text(self, value: str) -> str:
        """Its name."""
        return str(value)

    def schema(self) -> Schema:
        """See `Kind`."""
        return {"enum": [member.value for member in self.of]}


@dataclass(frozen=True)
class Flag:
    """On or off."""

    metavar: str | None = None

    def parse(self, text: str) -> bool:
        """``true`` or ``false``; see `Kind`."""
        if text not in {"true", "false"}:
            raise BadOption(f"{text!r} is not true or false")
        return text == "true"

    def text(self, value: bool) -> str:
        """``true`` or ``false``."""
        return str(value).lower()

    def schema(self) -> Schema:
        """See `Kind`."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class GroupPages:
    """A number of pages from 1 to `most`, or the word for sizes that are learned."""

    most: int
    metavar: str | None = "N|adaptive"

    def parse(self, text: str) -> int | str:
        """A number or the word; see `Kind`."""
        if text == ADAPTIVE:
            return ADAPTIVE
        if not text.isascii() or not text.isdecimal():
            raise BadOption(f"{text!r} is neither a number of pages nor {ADAPTIVE}")
        return int(text)

    def text(self, value: int | str) -> str:
        """The number or the word."""
        return str(value)

    def schema(self) -> Schema:
        """See `Kind`."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": self.most},
                {"const": ADAPTIVE},
            ]
        }


@dataclass(frozen=True)
class Text:
    """A text that is checked elsewhere, where more is known.

    Attributes:
        metavar: what stands for it in --help.
        is_file: it names a file.
        no_file: of one that does: texts that are known by name instead.
        shape: what a document holds instead of it, as JSON Schema, made when it is asked for.
    """

    metavar: str | None
    is_file: bool = False
    no_file: Callable[[str], bool] = lambda _: False
    shape: Callable[[], Schema] = lambda: {"type": "string"}

    def parse(self, text: str) -> str:
        """The text itself."""
        return text

    def text(self, value: str) -> str:
        """The text itself."""
        return value

    def schema(self) -> Schema:
        """See `Kind`."""
        return self.shape()
