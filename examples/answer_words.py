"""How docs/answer.md writes its figures: one notation on the whole page.

`typical (low to high)` over the intervals of the prices, `mean [least to most]` over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from examples.answer_runs import Run

Show = Callable[[float], str]
_LARGE = 10
"""From here on a number is shown without decimals."""


def times(ratio: float) -> str:
    """A ratio to single pages."""
    return f"×{ratio:.0f}" if ratio >= _LARGE else f"×{ratio:.2f}"


def percent(value: float) -> str:
    """Of an overhead; the column says that it is percent."""
    return f"{value:.1f}" if abs(value) >= _LARGE else f"{value:.2f}"


def share(part: float) -> str:
    """Of the tracking time."""
    return f"{100 * part:.0f} %"


def ms(seconds: float) -> str:
    """A pause."""
    return f"{1000 * seconds:.0f} ms" if seconds >= _LARGE / 1000 else f"{1000 * seconds:.1f} ms"


def ratios(run: Run, single: Run) -> tuple[float, float, float]:
    """What is left of the overhead of single pages: typical, at all prices low, at all high."""
    typical, low, high = (a / b for a, b in zip(run.ends, single.ends, strict=True))
    return typical, low, high


def interval(values: tuple[float, float, float], show: Show) -> str:
    """The typical value, and between what all of them lie if that reads otherwise."""
    return _within(show(values[0]), values, show, "()")


def spread(values: Sequence[float], show: Show) -> str:
    """The mean over seeds, and between what they lie if that reads otherwise."""
    return _within(show(sum(values) / len(values)), values, show, "[]") if values else ""


def _within(shown: str, values: Sequence[float], show: Show, brackets: str) -> str:
    least, most = show(min(values)), show(max(values))
    return (
        shown if least == shown == most else f"{shown} {brackets[0]}{least} to {most}{brackets[1]}"
    )
