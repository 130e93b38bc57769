"""How a result came about: what was typed, by which pageferry, and when and where it ran.

What is the same for the same settings (pageferry's version, the command that repeats the
migration) stands in the result document. What is not (the date, the machine, the command as it
was typed, with its directories) stands beside it, in records that are never compared.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any, TypedDict


class Record(TypedDict):
    """One call of a command."""

    command: str
    pageferry: str
    date: str
    machine: str


@cache
def version() -> str:
    """Of this pageferry."""
    return metadata.version("pageferry")


def date() -> str:
    """Now, to the second, in UTC: ``2026-01-31T12:00:00+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine() -> str:
    """This one: its name, system, processor and Python."""
    return (
        f"{platform.node()}: {platform.system()} {platform.release()} on {platform.machine()}, "
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}"
    )


def record(command: str) -> Record:
    """Of a command that is run here and now."""
    return {"command": command, "pageferry": version(), "date": date(), "machine": machine()}


def is_record(found: Any) -> bool:
    """Whether something that was read from a file is a record."""
    return isinstance(found, Mapping) and all(
        isinstance(found.get(name), str) for name in Record.__annotations__
    )
