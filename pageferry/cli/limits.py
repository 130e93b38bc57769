"""`--fail-if`: limits on results, for scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pageferry.thresholds import Threshold


def fail_if(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option; its parameter is ``fail_if``."""
    return click.option(
        "--fail-if",
        "fail_if",
        metavar="CONDITION",
        multiple=True,
        help='End with 3 if a result fulfils this, such as "overhead > 1%" or "downtime > 300ms". '
        "Give it several times; docs/result-document.md lists what can be named.",
    )(command)


def thresholds(conditions: Sequence[str]) -> list[Threshold]:
    """What was typed, read.

    Raises:
        BadOption: something is no condition.
    """
    if not conditions:
        return []
    from pageferry.thresholds import Threshold

    return [Threshold.parse(text) for text in conditions]
