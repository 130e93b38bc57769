"""Parameters of workloads: what they are called, what they may be, how they are written.

A parameter's kind parses what a user typed and writes it back in one canonical way, so
that a workload's spec names it exactly wherever it travels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from paging_core.errors import BadOption, InvalidInput
from paging_core.units import (
    FRAME_BYTES,
    exact_duration,
    exact_size,
    parse_duration_ns,
    parse_size_bytes,
)

Value = int | float | str
"""Bytes, nanoseconds, counts and flags are int; fractions, rates, exponents float."""
Settings = Mapping[str, Value]
"""Every parameter of a workload by name, the defaults filled in."""

MAX_WORKING_SET_BYTES = 1 << 42


def part_of(pages: int, fraction: float) -> int:
    """That fraction of the pages, at least one and at most all of them."""
    return max(1, min(pages, round(pages * fraction)))


class Kind(Protocol):
    """How one sort of value is read and written."""

    def parse(self, text: str) -> Value:
        """The value of a text.

        Raises:
            InvalidInput: it is not one; the error says what would be.
        """

    def text(self, value: Value) -> str:
        """The one text of a value, which parses to it."""


@dataclass(frozen=True)
class Size:
    """Bytes, such as ``64MiB``: a multiple of `unit_bytes`, at least `least_bytes`."""

    unit_bytes: int = FRAME_BYTES
    least_bytes: int = FRAME_BYTES
    most_bytes: int = MAX_WORKING_SET_BYTES

    def parse(self, text: str) -> int:
        """Bytes; see `Kind`."""
        size_bytes = parse_size_bytes(text)
        if size_bytes % self.unit_bytes:
            raise BadOption(f"not a multiple of {self.unit_bytes} bytes")
        if not self.least_bytes <= size_bytes <= self.most_bytes:
            least, most = self.text(self.least_bytes), self.text(self.most_bytes)
            raise BadOption(f"not from {least} to {most}")
        return size_bytes

    def text(self, value: Value) -> str:
        """The largest binary unit that divides it."""
        return exact_size(int(value))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadOption("not a number")
    return value


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, such as ``0.25``."""

    least: float
    most: float

    def parse(self, text: str) -> float:
        """The number; see `Kind`."""
        value = _number(text)
        if not self.least <= value <= self.most:
            raise BadOption(f"not from {_plain(self.least)} to {_plain(self.most)}")
        return value

    def text(self, value: Value) -> str:
        """Its shortest decimal form."""
        return _plain(float(value))


@dataclass(frozen=True)
class Rate:
    """Events per second of guest time, such as ``500k`` or ``1.5M`` (decimal)."""

    least: float = 0.001
    most: float = 1e12

    def parse(self, text: str) -> float:
        """Events per second; see `Kind`."""
        scale = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:], 1.0)
        value = _number(text if scale == 1.0 else text[:-1]) * scale
        if not self.least <= value <= self.most:
            raise BadOption(f"not from {self.text(self.least)} to {self.text(self.most)} a second")
        return value

    def text(self, value: Value) -> str:
        """In thousands or millions where that is a whole number."""
        rate = float(value)
        for suffix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if rate >= scale and rate % scale == 0:
                return f"{int(rate // scale)}{suffix}"
        return _plain(rate)


@dataclass(frozen=True)
class Count:
    """A whole number from `least` to `most`."""

    least: int
    most: int

    def parse(self, text: str) -> int:
        """The number; see `Kind`."""
        if not text.isascii() or not text.isdigit():
            raise BadOption("not a whole number")
        value = int(text)
        if not self.least <= value <= self.most:
            raise BadOption(f"not from {self.least} to {self.most}")
        return value

    def text(self, value: Value) -> str:
        """In decimal."""
        return str(value)


@dataclass(frozen=True)
class Exponent:
    """A number in steps of 1/1024, so that powers of it can be computed exactly alike."""

    most: float = 4.0

    def parse(self, text: str) -> float:
        """The nearest step; see `Kind`."""
        return round(Number(0, self.most).parse(text) * 1024) / 1024

    def text(self, value: Value) -> str:
        """All its digits."""
        return _plain(float(value))


@dataclass(frozen=True)
class Duration:
    """Nanoseconds, such as ``100us``, from `least_ns` to `most_ns`."""

    least_ns: int
    most_ns: int

    def parse(self, text: str) -> int:
        """Nanoseconds; see `Kind`."""
        duration_ns = parse_duration_ns(text)
        if not self.least_ns <= duration_ns <= self.most_ns:
            raise BadOption(f"not from {self.text(self.least_ns)} to {self.text(self.most_ns)}")
        return duration_ns

    def text(self, value: Value) -> str:
        """The largest unit that divides it."""
        return exact_duration(int(value))


@dataclass(frozen=True)
class Parameter:
    """One parameter of a workload.

    Attributes:
        name: as it is typed.
        kind: what it may be.
        default: as a user would type it.
        help: what it does, in one line.
    """

    name: str
    kind: Kind
    default: str
    help: str

    def parse(self, text: str, workload: str) -> Value:
        """The value of what a user typed.

        Raises:
            BadOption: it cannot be; names the workload, the parameter and the way out.
        """
        try:
            return self.kind.parse(text)
        except InvalidInput as error:
            raise BadOption(
                f"workload {workload}: {self.name}={text}: {error}; try {self.name}={self.default}"
            ) from error
