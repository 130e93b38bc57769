"""Quantities: frames, bytes, rates and durations, and how people write them.

Internally memory is counted in 4 KiB frames or in bytes, guest time in
picoseconds (an integer, so that sums never round), everything shown to people in
nanoseconds or seconds. Names carry the unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NewType

from paging_core.errors import BadOption

Gfn = NewType("Gfn", int)
"""Guest frame number: index of a 4 KiB frame of guest physical memory."""

FRAME_SHIFT = 12
FRAME_BYTES = 1 << FRAME_SHIFT
WORDS_PER_FRAME = FRAME_BYTES // 8
PS_PER_NS = 1000
NS_PER_S = 1_000_000_000

_SIZE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_RATE_UNITS = {"bit/s": 1, "kbit/s": 10**3, "mbit/s": 10**6, "gbit/s": 10**9, "tbit/s": 10**12}
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_TIME_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµ/]*)\s*")


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadOption(f"{what} {text!r} is not a number with a unit; write it like {example}")
    return float(match[1]), match[2].lower()


def _scaled(text: str, units: dict[str, int], what: str, example: str) -> int:
    number, unit = _split(text, what, example)
    if unit not in units:
        known = ", ".join(u for u in units if u)
        raise BadOption(f"{what} {text!r} has an unknown unit; use one of {known}, like {example}")
    value = number * units[unit]
    if value >= 2**63:
        raise BadOption(
            f"{what} {text!r} is beyond what 63 bits can count; write it like {example}"
        )
    return round(value)


def parse_count(text: str) -> int:
    """A number of things such as ``100k`` or ``2.5M`` (decimal).

    Raises:
        BadOption: not a number, or an unknown unit.
    """
    return _scaled(text, _COUNT_UNITS, "count", "100k")


def parse_size_bytes(text: str) -> int:
    """Bytes in a size such as ``256MiB`` (``M`` and ``MiB`` are 2**20, ``MB`` is 10**6).

    Raises:
        BadOption: not a number, or an unknown unit.
    """
    return _scaled(text, _SIZE_UNITS, "size", "256MiB")


def parse_memory_bytes(text: str) -> int:
    """Bytes of guest memory: a positive multiple of the 4 KiB frame.

    Raises:
        BadOption: not a size, zero, or not a whole number of frames.
    """
    size_bytes = parse_size_bytes(text)
    if size_bytes == 0 or size_bytes % FRAME_BYTES:
        raise BadOption(
            f"memory {text!r} is not a positive multiple of the {FRAME_BYTES}-byte frame; "
            "write it like 256MiB"
        )
    return size_bytes


def parse_rate_bits_per_s(text: str) -> int:
    """Bits per second of a link such as ``1Gbit/s``.

    Raises:
        BadOption: not a rate, an unknown unit, or a link of 0.
    """
    rate = _scaled(text, _RATE_UNITS, "link", "1Gbit/s")
    if rate <= 0:
        raise BadOption(f"link {text!r} carries nothing; give it a rate such as 1Gbit/s")
    return rate


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of a duration such as ``300ms``.

    Raises:
        BadOption: not a duration, or an unknown unit.
    """
    return _scaled(text, _TIME_UNITS_NS, "duration", "300ms")


def exact_size(size_bytes: int) -> str:
    """Bytes in the largest binary unit that divides them; parses to the same."""
    return _in_units(size_bytes, (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)), 2, "")


def exact_rate(bits_per_s: int) -> str:
    """Bits per second in the largest unit that divides them; parses to the same."""
    units = (("Tbit/s", 12), ("Gbit/s", 9), ("Mbit/s", 6), ("kbit/s", 3))
    return _in_units(bits_per_s, units, 10, "bit/s")


def exact_duration(duration_ns: int) -> str:
    """Nanoseconds in the largest unit that divides them, at most seconds; parses to the same."""
    return _in_units(duration_ns, (("s", 9), ("ms", 6), ("us", 3)), 10, "ns")


def _in_units(value: int, units: Iterable[tuple[str, int]], base: int, least: str) -> str:
    for unit, power in units:
        if value and value % base**power == 0:
            return f"{value // base**power}{unit}"
    return f"{value}{least}"


def format_bytes(count_bytes: float) -> str:
    """A size for display: ``1.5 GiB``."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_ns(duration_ns: float) -> str:
    """A duration for display: ``12.3 ms``; a negative one has a minus sign: ``−225 µs``."""
    if duration_ns < 0:
        return f"−{format_ns(-duration_ns)}"
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if duration_ns >= scale:
            return f"{duration_ns / scale:.3g} {unit}"
    return f"{duration_ns:.0f} ns"
