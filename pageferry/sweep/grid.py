"""Grids: which combinations a sweep runs.

A grid file is TOML. Keys are axes, named after the options of ``pageferry migrate``, each
with a value or a list of values; every combination is run. ``[[grid]]`` tables are grids of
their own that share what stands above them, so that settings which exclude each other can
stand in one sweep. `workload` and `trace` are one axis: what the guest runs.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paging_core.errors import BadOption
from paging_core.reading import read_toml
from paging_core.text import shown

Value = str | int | float | bool
Settings = Mapping[str, Value]
"""One combination: a value for each axis that was named."""

LOADS = ("workload", "trace")
FLOW = "flow"
"""Not an axis: whether the points of a grid keep their flows."""


@dataclass(frozen=True)
class Grid:
    """One product of axes.

    Attributes:
        name: how messages call it.
        axes: the values of each.
        flow: keep the flow of each of its points.
    """

    name: str
    axes: Mapping[str, Sequence[Value]]
    flow: bool = False

    def overridden(self, axes: Mapping[str, Sequence[Value]]) -> Grid:
        """The same with some axes replaced; a load replaces every load."""
        kept = dict(self.axes)
        if any(load in axes for load in LOADS):
            kept = {name: values for name, values in kept.items() if name not in LOADS}
        return Grid(self.name, {**kept, **axes}, self.flow)

    def combinations(self) -> Iterator[Settings]:
        """Every combination, what the guest runs varying slowest."""
        loads = [{name: value} for name in LOADS for value in self.axes.get(name, ())]
        rest = {name: values for name, values in self.axes.items() if name not in LOADS}
        for load in loads or [{}]:
            for values in itertools.product(*rest.values()):
                yield {**load, **dict(zip(rest, values, strict=True))}


def read_grids(path: Path, axes: Sequence[str]) -> list[Grid]:
    """The grids of a file.

    Args:
        path: of a TOML file.
        axes: names that there are.

    Raises:
        BadOption: unreadable, no TOML, an unknown axis, an axis without values, or nothing.
    """
    content = read_toml(path)
    own = content.pop("grid", [])
    if not isinstance(own, list) or not all(isinstance(table, dict) for table in own):
        raise BadOption(f"{path}: a grid of its own begins with [[grid]], in two brackets")
    shared = _grid(content, str(path), axes)
    if not own:
        if not shared.axes:
            raise BadOption(f"{path} names no axis; write one such as group_pages = [1, 64]")
        return [shared]
    return [_within(shared, table, f"{path}, grid {i}", axes) for i, table in enumerate(own, 1)]


def _within(shared: Grid, table: dict[str, Any], name: str, axes: Sequence[str]) -> Grid:
    own = _grid(table, name, axes)
    merged = shared.overridden(own.axes)
    return Grid(name, merged.axes, own.flow or shared.flow)


def _grid(content: dict[str, Any], name: str, axes: Sequence[str]) -> Grid:
    flow = content.pop(FLOW, False)
    if not isinstance(flow, bool):
        raise BadOption(f"{name}: flow is true or false, not {shown(repr(flow))}")
    for axis in content:
        if axis not in axes:
            raise BadOption(f"{name}: there is no axis {shown(axis)}; {_meant(axis, axes)}")
    return Grid(name, {axis: _values(content[axis], axis, name) for axis in content}, flow)


def _meant(name: str, axes: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), axes, 1)
    return f"did you mean {close[0]}?" if close else f"the axes are {', '.join(axes)}"


def _values(value: object, axis: str, name: str) -> list[Value]:
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values:
        raise BadOption(f"{name}: axis {axis} has no values; give one or leave it out")
    for each in values:
        if not isinstance(each, (str, int, float, bool)):
            raise BadOption(f"{name}: {shown(repr(each))} is no value of axis {axis}")
    return values
