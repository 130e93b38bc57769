"""Two values for every axis that there is: a new option of ``pageferry migrate`` is one by itself.

A value is found by trying: the choices of an axis that has some, both positions of a switch, and a
few texts of every kind that an option may want. Axes that mean nothing alone (a trigger without
groups) are given the company in which they do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pageferry.settings import AXES
from pageferry.sweep.point import Point
from paging_core.errors import InvalidInput
from paging_core.kinds import Choice, Flag
from tests.sweep.small import point

TRACES = Path(__file__).parents[2] / "examples" / "traces"
SIZES = (1, 16)
NAMED: dict[str, list[Any]] = {
    # One workload with two values of a parameter: two loads of the same name.
    "workload": ["hotcold:wss=1MiB,write_rate=1M", "hotcold:wss=2MiB,write_rate=1M"],
    "trace": [str(TRACES / "redis.parquet"), str(TRACES / "sqlite.parquet")],
    "group_pages": [16, "adaptive"],
    # KVM's alone. The smallest is full after 64 entries: these guests fill it.
    "dirty_ring": [0, 128],
}
"""Where trying would not find what is wanted."""
TEXTS = ("4MiB", "8MiB", "1MiB", "100Mbit/s", "1Gbit/s", "1ms", "5ms", "1", "2", "3", "cheap.toml",
         "dear.toml")  # fmt: skip
COMPANY: tuple[dict[str, Any], ...] = (
    {},
    {"workload": None, "memory": "64MiB"},
    {"paging": "hap"},
    {"clean": "clear-log"},
    {"paging": "hap", "pml": True},
    {"group_pages": 64},
    {"policy": "qemu"},
    {"hypervisor": "kvm"},
    {"hypervisor": "kvm", "clean": "blow"},
)
COSTS = {"cheap.toml": "[ns]\nexit = 200\n", "dear.toml": "[ns]\nexit = 9000\nfixup = 4000\n"}
"""Files that are to lie where the tests run."""


def _tried(settings: dict[str, Any]) -> Point | None:
    try:
        return point(**settings)
    except InvalidInput:
        return None


def _values(axis: str) -> list[Any]:
    kind = AXES[axis].kind
    if axis in NAMED:
        return NAMED[axis]
    if isinstance(kind, Flag):
        return [False, True]
    if isinstance(kind, Choice):
        return [member.value for member in kind.of]
    return list(TEXTS)


def _two(axis: str, company: dict[str, Any]) -> list[Any]:
    """Two values of an axis that ask for unlike migrations in such company."""
    found: dict[str, Any] = {}
    for value in _values(axis):
        made = _tried({**company, axis: value})
        if made is not None and len(found) < 2:
            found.setdefault(made.id, value)
    return list(found.values())


@cache
def points_of(axis: str) -> tuple[Point, ...]:
    """Two values of an axis, each with single pages and with groups as far as that can be."""
    for company in COMPANY:
        values = _two(axis, company)
        if len(values) < 2:
            continue
        grid = [
            {**company, axis: value, **_size(axis, company, n)} for value in values for n in SIZES
        ]
        made = {p.id: p for settings in grid if (p := _tried(settings)) is not None}
        alone = [_tried({**company, axis: value}) for value in values]
        made |= {p.id: p for p in alone if p is not None}
        return tuple(made.values())
    raise AssertionError(f"no two values of the axis {axis} are known; name them in NAMED")


def _size(axis: str, company: dict[str, Any], n: int) -> dict[str, Any]:
    return {"group_pages": n} if axis != "group_pages" and "group_pages" not in company else {}
