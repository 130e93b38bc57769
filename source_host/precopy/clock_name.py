"""The clocks that a migration can run on, by name."""

from __future__ import annotations

from enum import StrEnum


class ClockName(StrEnum):
    """The clocks that there are."""

    VIRTUAL = "virtual"
    REAL = "real"
