"""Where output goes: results to stdout, everything about the run to stderr."""

from __future__ import annotations

from rich.console import Console

_WIDTH_OF_A_FILE = 120


def stdout_console() -> Console:
    """Results: wide enough for the tables where there is no terminal to fit into."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    return console


def stderr_console() -> Console:
    """Progress and notes."""
    return Console(stderr=True, highlight=False)
