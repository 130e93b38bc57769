"""At which prices groups of 64 save, as docs/answer.md says it."""

from __future__ import annotations

from collections.abc import Iterable

from examples.answer_runs import AGAINST, GROUPS, TYPICAL, Run, Runs
from examples.answer_words import ratios

_SAVES, _COSTS = 0.98, 1.02


def at_prices(runs: Runs, single: Run) -> dict[str, float]:
    """Of the overhead of single pages, what groups of 64 leave, by the prices."""
    grouped = runs.like(single, variant=GROUPS)
    if grouped is None:
        return {}
    left = dict(zip((TYPICAL, "low", "high"), ratios(grouped, single), strict=True))
    dear = [runs.like(each, costs=AGAINST) for each in (single, grouped)]
    if dear[0] is not None and dear[1] is not None:
        left[AGAINST] = dear[1].overhead / dear[0].overhead
    return left


def verdict(left: Iterable[float]) -> str:
    """Whether they agree; a change of less than 2 % is none."""
    found = list(left)
    if max(found) < _SAVES:
        return "save"
    return "cost" if min(found) > _COSTS else "flip"
