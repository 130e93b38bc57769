"""What the tables of docs/answer.md come to, in sentences: loads by name, and spans of ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from examples.answer_prices import at_prices, verdict
from examples.answer_runs import AGAINST, GROUPS, KEPT, LINKS, PML, Run, Runs
from examples.answer_words import times

_SMALL = "64 MiB"
_CONVERGING = 0.5
"""Share of the link that a generated load at most writes for rounds to shrink."""


def _listed(runs: Iterable[Run]) -> str:
    names = [run.load if run.memory == _SMALL or run.recorded else f"{run.load} ({run.memory})"
             for run in runs]  # fmt: skip
    return ", ".join(names) or "none"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _span(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys((times(min(values)), times(max(values)))))


def tearing_down(runs: Runs) -> str:
    """Objection 1: where rebuilding is the larger part, and where keeping shadows saves more."""
    lines = []
    for link in LINKS:
        found = runs.singles(hypervisor="xen", paging="shadow", suppress=True, link=link)
        kept = [one for one in found if runs.like(one, variant=KEPT)]
        large = _listed(one for one in found if one.rebuilding > 1 / 2)
        better = _listed(one for one in kept if _saves_more(runs, one))
        lines.append(
            f"{link}: rebuilding and teardown are more than half of tracking on {large}; keeping "
            f"the shadows saves more than groups of 64 on {better} (of {len(kept)})."
        )
    return _lines(lines)


def _saves_more(runs: Runs, one: Run) -> bool:
    kept, grouped = (runs.like(one, variant=variant) for variant in (KEPT, GROUPS))
    return kept is not None and grouped is not None and kept.overhead < grouped.overhead


def bandwidth(runs: Runs) -> str:
    """Objections 2 and 3: spans of bytes and pauses, by what is done about false dirties."""
    kinds: dict[str, Callable[[Run], bool]] = {
        "generated loads of up to half the link": lambda run: _asked(run) <= _CONVERGING,
        "generated loads of more": lambda run: _CONVERGING < _asked(run) < math.inf,
        "churn, and recorded programs and machines": lambda run: _asked(run) == math.inf,
    }
    lines = []
    for kind, of_it in kinds.items():
        parts = []
        for link, suppress, said in (
            (LINKS[1], False, "without digests"), (LINKS[0], True, f"with, {LINKS[0]}"),
            (LINKS[1], True, f"with, {LINKS[1]}"), (LINKS[2], True, f"with, {LINKS[2]}"),
        ):  # fmt: skip
            found = runs.singles(hypervisor="xen", suppress=suppress, link=link)
            pairs = [(one, runs.like(one, variant=GROUPS)) for one in found if of_it(one)]
            both = [(one, run) for one, run in pairs if run is not None]
            if both:
                wire = _span([run.wire_bytes / one.wire_bytes for one, run in both])
                pause = _span([run.downtime_s / one.downtime_s for one, run in both])
                parts.append(f"{said} bytes {wire} and pause {pause}")
        lines.append(f"{kind}: {'; '.join(parts)}.")
    return _lines(lines)


def _asked(run: Run) -> float:
    """Of the link; of a load that was not asked for a share, more than any."""
    _, _, share = run.load.partition(" ")
    return float(share) if share else math.inf


def by_prices(runs: Runs) -> str:
    """Where groups of 64 save at all prices, where it depends on them, where they never do."""
    lines = []
    for paging in ("shadow", "hap"):
        found = runs.singles(hypervisor="xen", paging=paging, suppress=True, link=LINKS[1])
        priced = [(one, at_prices(runs, one)) for one in found]
        judged = [(one, verdict(left.values())) for one, left in priced if AGAINST in left]
        said = {
            what: [one for one, verdict_ in judged if verdict_ == what]
            for what in ("save", "flip", "cost")
        }
        lines.append(
            f"{paging}: they save at all of these prices on {_listed(said['save'])}; it depends on "
            f"the prices on {_listed(said['flip'])}; they cost at all of them on "
            f"{_listed(said['cost'])}. {_threshold(said['save'], [*said['flip'], *said['cost']])}"
        )
    return _lines(lines)


def _threshold(saved: Sequence[Run], others: Sequence[Run]) -> str:
    """The density from which on all of them save."""
    if not others:
        return "They never cost it anything."
    most = max(run.density or 0 for run in others)
    above = [run.density or 0 for run in saved if (run.density or 0) > most]
    if not above:
        return "No density tells them apart."
    return (
        f"From {min(above):.1f} frames of 64 on all save; the densest on which it depends has "
        f"{most:.1f}."
    )


def against_pml(runs: Runs) -> str:
    """Objection 5: groups of 64 against PML, at typical prices."""
    found = runs.singles(hypervisor="xen", paging="hap", suppress=True, link=LINKS[1])
    both = [
        (one, grouped, pml)
        for one in found
        if (grouped := runs.like(one, variant=GROUPS)) and (pml := runs.like(one, variant=PML))
    ]
    better = _listed(one for one, grouped, pml in both if grouped.overhead < pml.overhead)
    costs = _listed(one for one, grouped, _ in both if grouped.overhead > one.overhead)
    left = _span([pml.overhead / one.overhead for one, _, pml in both])
    return _lines([
        f"PML leaves {left} of the overhead of single pages, at typical prices.",
        f"Groups of 64 leave less than PML on {better}.",
        f"Groups of 64 cost the guest more than single pages on {costs}.",
    ])  # fmt: skip
