"""Runs that differ in nothing but their seed, as one: a mean and a spread.

And the names by which a page tells runs apart: of loads, with the parameters in which loads of one
name differ; of surroundings, with the settings that have more than one value in the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pageferry.sweep.settings import (
    LOADS,
    NAMES,
    SETTINGS,
    SURROUNDINGS,
    Setting,
    values_of,
)
from paging_core.settings import Role

Row = Mapping[str, Any]
_ALWAYS = "paging"
"""Named whether it has several values or not."""


@dataclass(frozen=True)
class Spread:
    """Of one figure over the repetitions of a run.

    Attributes:
        mean: of all.
        least, most: between which they lie; the mean itself of a single run.
        n: how many.
    """

    mean: float
    least: float
    most: float
    n: int


@dataclass(frozen=True)
class Repeated:
    """Runs that are alike in all settings but their seed.

    Attributes:
        runs: of `variants.compared`, by seed.
        load: the name of what the guest ran.
        where: the names of its surroundings, as far as they differ within the sweep.
    """

    runs: tuple[Row, ...]
    load: str
    where: str

    def __getitem__(self, name: str) -> Any:
        """A setting, the variant, or whether it is plain: the same in all of them."""
        return self.runs[0][name]

    def spread(self, figure: str | Callable[[Row], float | None]) -> Spread | None:
        """Mean and spread of a column, or of what a function makes of a run; None: no run has it.

        A ratio's mean is that of each seed's ratio to the baseline of the same seed.
        """
        of = figure if callable(figure) else lambda run: run[figure]
        found = [value for value in map(of, self.runs) if value is not None]
        if not found:
            return None
        mean = found[0] if min(found) == max(found) else sum(found) / len(found)
        return Spread(mean, min(found), max(found), len(found))


def repeated(runs: Iterable[Row]) -> list[Repeated]:
    """Runs by all of their settings but the seed, in the order of the first of each."""
    rows = list(runs)
    loads, where = load_names(rows), surroundings(rows)
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = values_of(row, tuple(s for s in SETTINGS if s.role is not Role.REPETITION))
        alike.setdefault(key, []).append(row)
    return [
        Repeated(
            tuple(sorted(same, key=lambda run: (run["seed"], run["point"]))),
            loads[values_of(same[0], LOADS)],
            where_of(same[0], where),
        )
        for same in alike.values()
    ]


def surroundings(rows: Sequence[Row]) -> tuple[Setting, ...]:
    """The fewest settings, in their order, that tell the surroundings of these runs apart."""
    named: tuple[Setting, ...] = ()
    for setting in SURROUNDINGS:
        tried = (*named, setting)
        more = len({values_of(r, tried) for r in rows}) > len({values_of(r, named) for r in rows})
        if more or setting.name == _ALWAYS:
            named = tried
    return named


def where_of(row: Row, named: Sequence[Setting]) -> str:
    """The surroundings of a run by name: the kind of paging first."""
    first = [setting for setting in named if setting.name == _ALWAYS]
    rest = [setting for setting in named if setting.name != _ALWAYS]
    return ", ".join(setting.show(row[setting.name]) for setting in (*first, *rest))


def varying(rows: Sequence[Row]) -> list[str]:
    """Settings that have more than one value among these runs."""
    return [name for name in NAMES if len({row[name] for row in rows}) > 1]


def load_names(rows: Sequence[Row]) -> dict[tuple[Any, ...], str]:
    """A name for each load, by the values of `LOADS`: as short as tells them apart."""
    loads = {values_of(row, LOADS): row for row in rows}
    by_word: dict[str, list[tuple[Any, ...]]] = {}
    for key, row in loads.items():
        by_word.setdefault(row["load"], []).append(key)
    names: dict[tuple[Any, ...], str] = {}
    for word, keys in by_word.items():
        if len(keys) == 1:
            names[keys[0]] = word
        else:
            names |= _told_apart(word, [loads[key] for key in keys])
    return names


def _told_apart(word: str, rows: Sequence[Row]) -> dict[tuple[Any, ...], str]:
    parameters = [_parameters(row["workload"]) for row in rows]
    differ = {
        name for each in parameters for name, value in each.items()
        if any(other.get(name) != value for other in parameters)
    }  # fmt: skip
    names = {}
    for row, each in zip(rows, parameters, strict=True):
        parts = [f"{name}={value}" for name, value in each.items() if name in differ]
        if row["trace"]:
            parts.append(f"{row['trace']} {row['trace_xxh3_64'] or ''}".strip())
        names[values_of(row, LOADS)] = f"{word} {','.join(parts)}".strip()
    return names


def _parameters(spec: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in spec.partition(":")[2].split(",") if pair)
    return {name: value for name, _, value in pairs}
