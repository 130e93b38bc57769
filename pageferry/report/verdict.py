"""The verdict of a sweep: what holds for all of its loads, then the exceptions by name.

Nothing here is summed over loads, links, memories or seeds: a statement is about the ratio of each
load's run to single pages of that very load, and is made for each kind of surroundings by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pageferry.report.loads import DOWNTIME, FIGURES, OVERHEAD, WIRE, Figure
from pageferry.report.repeats import Repeated

_SAME = 0.02
"""A change of less than 2 % is called none."""
_CHANGES = ("down", "the same to 2 %", "up", "not the same with every size")


@dataclass(frozen=True)
class Verdict:
    """Sentences.

    Attributes:
        holds: what holds for all loads, or for most of them.
        exceptions: the loads for which it does not, by name and with their numbers.
    """

    holds: tuple[str, ...]
    exceptions: tuple[str, ...]


@dataclass(frozen=True)
class _Case:
    """One load under one remedy, against single pages of the same load."""

    run: Repeated
    single: Repeated
    figure: Figure

    @property
    def ratio(self) -> float | None:
        found = self.run.spread(self.figure.ratio)
        return None if found is None else found.mean

    @property
    def change(self) -> str:
        ratio = self.ratio
        assert ratio is not None  # noqa: S101 - cases without one are left out
        return _change(ratio)

    @property
    def at_ends(self) -> tuple[float, float] | None:
        """The ratio with all prices low, and with all of them high; None: not about prices."""
        if self.figure is not OVERHEAD:
            return None
        found = [self.run.spread(f"overhead_{end}") for end in ("low", "high")]
        return None if found[0] is None or found[1] is None else (found[0].mean, found[1].mean)

    @property
    def flips(self) -> bool:
        """Whether the change is another one at an end of the prices."""
        return any(_change(ratio) != self.change for ratio in self.at_ends or ())

    def __str__(self) -> str:
        before, after = (each.spread(self.figure.column) for each in (self.single, self.run))
        assert before is not None and after is not None and self.ratio is not None  # noqa: S101, PT018
        show = self.figure.show
        return f"{show(before.mean)} → {show(after.mean)}, ×{self.ratio:.2f}"


def _change(ratio: float) -> str:
    return _CHANGES[1] if abs(ratio - 1) <= _SAME else _CHANGES[0 if ratio < 1 else 2]


_ByLoad = Mapping[str, Sequence[Repeated]]


def verdict(runs: Sequence[Repeated]) -> Verdict:
    """What the runs say, as much as they can say."""
    holds: list[str] = []
    exceptions: list[str] = []
    for where in dict.fromkeys(run.where for run in runs):
        mine: dict[str, list[Repeated]] = {}
        for run in runs:
            if run.where == where:
                mine.setdefault(run.load, []).append(run)
        _alone(where, mine, holds)
        _first_objection(where, mine, holds)
        _groups(where, mine, holds, exceptions)
        _best_size(where, mine, holds)
        _others(where, mine, holds)
    return Verdict(tuple(holds), tuple(exceptions))


def _single(runs: Sequence[Repeated]) -> Repeated | None:
    return next((run for run in runs if run["plain"] and run["group_pages"] == 1), None)


def _grouped(runs: Sequence[Repeated]) -> list[Repeated]:
    return [run for run in runs if run["plain"] and run["group_pages"] > 1]


def _listed(words: Sequence[object]) -> str:
    shown = [str(word) for word in words]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _on_loads(found: int, of: int, name: str) -> str:
    """In how many of the loads."""
    if of == 1:
        return f"on {name}"
    if found == of:
        return "on both loads" if of == 2 else f"on all {of} loads"
    return f"on {found} of {of} loads"


def _alone(where: str, loads: _ByLoad, holds: list[str]) -> None:
    """What tracking costs with single pages, before anything is done about it."""
    costs = [
        (found.mean, load, _between(single))
        for load, runs in loads.items()
        if (single := _single(runs)) is not None
        and (found := single.spread(OVERHEAD.column)) is not None
    ]
    if not costs:
        return
    (least, low, about), (most, high, about_most) = min(costs), max(costs)
    if len(costs) == 1:
        said = f"{OVERHEAD.show(least)}{about} on {low}"
    else:
        said = (
            f"between {OVERHEAD.show(least)}{about} on {low} and {OVERHEAD.show(most)}{about_most} "
            f"on {high}"
        )
    holds.append(f"{where}: single pages cost the guest {said}.")


def _between(run: Repeated) -> str:
    """Between which the overhead lies, as far as the prices are known; empty where exact."""
    found = [run.spread(f"overhead_{end}_percent") for end in ("low", "high")]
    if found[0] is None or found[1] is None or found[0].mean == found[1].mean:
        return ""
    low, high = sorted(end.mean for end in found if end is not None)
    return f" ({OVERHEAD.show(low)} to {OVERHEAD.show(high)})"


def _first_objection(where: str, loads: _ByLoad, holds: list[str]) -> None:
    """Which part is big: the fixups, or shadows torn down and built again?"""
    shares: list[tuple[str, float]] = []
    for load, runs in loads.items():
        single = _single(runs)
        share = None if single is None else single.spread(_rebuilding)
        if single is not None and single["paging"] == "shadow" and share is not None:
            shares.append((load, share.mean))
    if not shares:
        return
    large = [f"{load} ({share:.0f} %)" for load, share in shares if share > 50]
    most = max(share for _, share in shares)
    if large:
        said = f"is the larger part of the tracking time on {_listed(large)}"
        said += " and on no other load" if len(large) < len(shares) else ""
    else:
        said = f"is at most {most:.0f} % of the tracking time of any load"
    holds.append(
        f"{where}: with single pages, tearing shadows down and building them again {said}. Groups "
        "can only save the fixup faults, and the entries they install on the way."
    )


def _rebuilding(run: Mapping[str, object]) -> float | None:
    names = ("time_rebuild_ns", "time_teardown_ns", "tracking_ns")
    rebuild, teardown, tracking = (int(str(run[name])) for name in names)
    return 100 * (rebuild + teardown) / tracking if tracking else None


def _groups(where: str, loads: _ByLoad, holds: list[str], exceptions: list[str]) -> None:
    """Fixed groups of every size that was run, against single pages."""
    sizes = sorted({run["group_pages"] for runs in loads.values() for run in _grouped(runs)})
    if not sizes:
        return
    parts = []
    for figure in FIGURES:
        cases = {load: list(_cases(runs, figure)) for load, runs in loads.items()}
        cases = {load: found for load, found in cases.items() if found}
        if cases:
            said, named = _over_loads(figure, cases)
            parts.append(said)
            exceptions += [f"{where}: {text}" for text in named]
            exceptions += [f"{where}: {text}" for text in _flips(cases)]
    if parts:
        against = f"groups of {_listed(sizes)} against single pages"
        holds.append(f"{where}: {against}: {'; '.join(parts)}.")


def _flips(loads: Mapping[str, Sequence[_Case]]) -> Iterator[str]:
    """The loads on which it depends on the prices, within their intervals, what groups do."""
    for load, cases in loads.items():
        for case in cases:
            if case.flips and case.at_ends is not None:
                low, high = case.at_ends
                yield (
                    f"{case.figure.title} on {load} with n = {case.run['group_pages']} depends on "
                    f"the prices: {case.change} (×{case.ratio:.2f}), with all of them low "
                    f"{_change(low)} (×{low:.2f}), with all of them high {_change(high)} "
                    f"(×{high:.2f})"
                )


def _cases(runs: Sequence[Repeated], figure: Figure) -> Iterator[_Case]:
    single = _single(runs)
    for run in _grouped(runs) if single is not None else ():
        case = _Case(run, single, figure)  # type: ignore[arg-type]
        if case.ratio is not None:
            yield case


def _over_loads(figure: Figure, loads: Mapping[str, Sequence[_Case]]) -> tuple[str, Iterator[str]]:
    """What most loads do, and the others by name."""
    by_change: dict[str, list[str]] = {change: [] for change in _CHANGES}
    for load, cases in loads.items():
        found = {case.change for case in cases}
        by_change[found.pop() if len(found) == 1 else _CHANGES[-1]].append(load)
    change = max(_CHANGES, key=lambda each: len(by_change[each]))
    same = by_change[change]
    ratios = sorted(case.ratio or 0.0 for load in same for case in loads[load])
    said = f"{figure.title} {change} {_on_loads(len(same), len(loads), same[0])}"
    span = " to ".join(dict.fromkeys(f"×{ratio:.2f}" for ratio in (ratios[0], ratios[-1])))
    named = (
        f"{figure.title} {other} on {load} ({_farthest(loads[load])})"
        for other, there in by_change.items() if other != change
        for load in there
    )  # fmt: skip
    return f"{said} ({span})", named


def _farthest(cases: Sequence[_Case]) -> str:
    by_size = sorted(cases, key=lambda case: case.run["group_pages"])
    ends = [pick(by_size, key=lambda case: case.ratio or 0) for pick in (min, max)]
    shown = [case for case in by_size if case in ends]
    return "; ".join(f"{case} with n = {case.run['group_pages']}" for case in shown)


def _best_size(where: str, loads: _ByLoad, holds: list[str]) -> None:
    """The size with the least overhead, where there was a choice."""
    best: dict[int, list[str]] = {}
    sizes: set[int] = set()
    for load, runs in loads.items():
        found = [
            (cost.mean, run["group_pages"])
            for run in _grouped(runs) if (cost := run.spread(OVERHEAD.column)) is not None
        ]  # fmt: skip
        if len(found) > 1:
            best.setdefault(min(found)[1], []).append(load)
            sizes |= {size for _, size in found}
    if not best:
        return
    n_loads = sum(map(len, best.values()))
    parts = [
        f"n = {size} on {_listed(best[size])}" if len(best) > 1
        else f"n = {size} {_on_loads(n_loads, n_loads, best[size][0])}"
        for size in sorted(best)
    ]  # fmt: skip
    holds.append(
        f"{where}: of the sizes that were run ({_listed(sorted(sizes))}) the least overhead has "
        f"{'; '.join(parts)}."
    )


def _others(where: str, loads: _ByLoad, holds: list[str]) -> None:
    """What costs the guest less than any fixed size of group that was run with the same load."""
    better: dict[str, list[tuple[str, str]]] = {}
    tried: dict[str, int] = {}
    for load, runs in loads.items():
        plain = [_cost(run) for run in runs if run["plain"]]
        if not plain:
            continue
        for run in runs:
            if run["plain"]:
                continue
            variant = str(run["variant"])
            tried[variant] = tried.get(variant, 0) + 1
            if _cost(run) < min(plain):
                better.setdefault(variant, []).append((load, _price(run)))
    parts = []
    for variant, found in better.items():
        if len(found) == tried[variant] > 1:
            parts.append(f"{variant} on all {len(found)} loads that were run with it")
        else:
            parts.append(f"{variant} on {_listed([f'{load} ({p})' for load, p in found])}")
    if parts:
        holds.append(
            f"{where}: less overhead than single pages and every fixed group that was run has: "
            f"{'; '.join(parts)}."
        )


def _cost(run: Repeated) -> float:
    found = run.spread(OVERHEAD.column)
    return float("inf") if found is None else found.mean


def _price(run: Repeated) -> str:
    shown = [OVERHEAD.show(_cost(run))]
    for figure, name in ((WIRE, "bytes"), (DOWNTIME, "downtime")):
        ratio = run.spread(figure.ratio)
        if ratio is not None:
            shown.append(f"{name} ×{ratio.mean:.2f}")
    return ", ".join(shown)
