"""Small points, quick to run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pageferry.cli.axes import command_of, options_of
from pageferry.sweep.point import Point

SMALL: dict[str, Any] = {
    "memory": "4MiB",
    "workload": "hotcold:wss=1MiB,write_rate=1M",
    "link": "1Gbit/s",
    "max_rounds": 3,
}
CROWDED: dict[str, Any] = {
    **SMALL,
    "workload": "churn:wss=1MiB,region=1MiB,fork_every=100,children=8,write_rate=2M",
}
"""Its kernel runs out of frames while it migrates."""


def point(*, flow: bool = False, **settings: Any) -> Point:
    """A small point with some settings changed; None leaves one out."""
    merged = {k: v for k, v in {**SMALL, **settings}.items() if v is not None}
    return Point(options_of(merged, Path.cwd()), command_of(merged, Path.cwd()), flow)


def arguments(command: str) -> list[str]:
    """Of a command that a point says reproduces it, without the program's name."""
    program, *rest = shlex.split(command)
    assert program == "pageferry"
    return rest
