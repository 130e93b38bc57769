"""The settings of a migration as columns: what a sweep's table has, joins on and tells apart.

Every setting of `pageferry.settings` is a column, the trace two. From the columns come
``results.parquet``, the keys on which runs are set against each other (`ALIKE`: all settings but
those that a remedy consists of), and what the report names where a sweep has more than one value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pageferry.settings import SETTINGS as DECLARED
from paging_core.costs import CostTable
from paging_core.kinds import ADAPTIVE, BitRate, Duration, Flag, GroupPages, Memory, Whole
from paging_core.settings import Role
from paging_core.settings import Setting as Declared

ADAPTIVE_PAGES = 0
"""`group_pages` of groups that learn their size, in the table."""

Settings = Mapping[str, Any]
"""A value for each column."""
Config = Mapping[str, Any]
"""The `config` of a result document."""


@dataclass(frozen=True)
class Setting:
    """One column.

    Attributes:
        name: of the column; its unit is its ending.
        kind: type of the column.
        role: see `Role`.
        title: in a table's head.
        show: its value in words that name the setting as well.
        of: key of the document's `config`.
        value: from that key's value to the column's.
        plain: of a remedy, by the other columns: the value of single pages and nothing else.
        usual: its value unless another one is set; None when something else decides.
        paging: the only kind of paging that has it; empty for both.
    """

    name: str
    kind: pa.DataType
    role: Role
    title: str
    show: Callable[[Any], str]
    of: str
    value: Callable[[Any], Any] = lambda value: value
    plain: Callable[[Settings], Any] | None = None
    usual: Any = None
    paging: str = ""

    def is_about(self, row: Settings) -> bool:
        """Whether a run's kind of paging has it."""
        return not self.paging or row["paging"] == self.paging


_SCALES: Mapping[type, tuple[tuple[str, int], ...]] = {
    BitRate: (("Tbit/s", 10**12), ("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 1000)),
    Duration: (("s", 10**9), ("ms", 10**6), ("µs", 1000)),
    Memory: (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)),
}
_LEAST = {BitRate: "bit/s", Duration: "ns", Memory: "B"}


def _exact(kind: object, value: Any) -> str:
    """A value whose digits are all there: two values never read alike."""
    scales = _SCALES.get(type(kind))
    if scales is None:
        return str(value)
    for unit, scale in scales:
        if value >= scale and value * 1024 % scale == 0:
            return f"{value / scale:.12g} {unit}"
    return f"{value} {_LEAST[type(kind)]}"


def _in_words(declared: Declared, value: Any) -> str:
    if isinstance(declared.kind, Flag):
        return declared.named if value else f"no {declared.named}"
    if value is None and declared.paging and declared.otherwise:
        # A document says what its hypervisor chose: nothing is chosen for the other kind of paging.
        return f"{declared.named} only under {declared.paging}"
    if value is None or value == "":
        named = declared.named
        return f"{named} {declared.otherwise}" if declared.otherwise else f"no {named}"
    if value == 0 and declared.role is Role.REMEDY:
        return f"no {declared.named}"
    return (declared.words or declared.named + " {}").format(_exact(declared.kind, value))


def _type(declared: Declared) -> pa.DataType:
    match declared.kind:
        case Flag():
            return pa.bool_()
        case Memory() | BitRate() | Duration():
            return pa.int64()
        case Whole() as whole:
            return pa.int32() if whole.most < 1 << 31 else pa.int64()
        case GroupPages():
            return pa.int32()
        case _:
            return pa.string()


def _plain(declared: Declared) -> Callable[[Settings], Any] | None:
    if declared.role is not Role.REMEDY:
        return None
    return declared.plain or (lambda _: declared.default_value())


def _column(declared: Declared) -> Setting:
    return Setting(
        declared.name, _type(declared), declared.role, declared.named,
        lambda value: _in_words(declared, value), declared.name, plain=_plain(declared),
        usual=declared.default_value(), paging=declared.paging,
    )  # fmt: skip


# -- columns that are not their setting's value as it stands ------------------------------------


def _workload(declared: Declared) -> list[Setting]:
    return [Setting("workload", pa.string(), declared.role, "workload",
                    lambda spec: spec or "no workload", "workload",
                    lambda spec: spec or "")]  # fmt: skip


def _trace(declared: Declared) -> list[Setting]:
    file = Setting("trace", pa.string(), declared.role, "trace",
                   lambda name: name or "no trace", "trace",
                   lambda trace: str(trace["file"]) if trace else "")  # fmt: skip
    content = Setting("trace_xxh3_64", pa.string(), declared.role, "trace content",
                      lambda digest: f"content {digest}" if digest else "no content known", "trace",
                      lambda trace: trace["xxh3_64"] if trace else None)  # fmt: skip
    return [file, content]


def _group_pages(declared: Declared) -> list[Setting]:
    return [Setting("group_pages", pa.int32(), declared.role, declared.named,
                    lambda n: ADAPTIVE if n == ADAPTIVE_PAGES else f"n = {n}", "group_pages",
                    lambda n: ADAPTIVE_PAGES if n == ADAPTIVE else int(n),
                    lambda _: 1)]  # fmt: skip


def _costs(declared: Declared) -> list[Setting]:
    return [Setting("costs_ns", pa.string(), declared.role, "costs", _costs_in_words, "costs_ns",
                    _canonical)]  # fmt: skip


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _costs_in_words(text: str) -> str:
    default = CostTable().prices_ns()
    other = [f"{k} {ns:g} ns" for k, ns in json.loads(text).items() if ns != default.get(k)]
    return f"costs with {', '.join(other)}" if other else "default costs"


_OF_THEIR_OWN: Mapping[str, Callable[[Declared], list[Setting]]] = {
    "workload": _workload,
    "trace": _trace,
    "group_pages": _group_pages,
    "costs_ns": _costs,
}


def _columns() -> Iterator[Setting]:
    for name, declared in DECLARED.items():
        if name in _OF_THEIR_OWN:
            yield from _OF_THEIR_OWN[name](declared)
        else:
            yield _column(declared)


SETTINGS: tuple[Setting, ...] = tuple(_columns())
"""Every setting, in the order of the table's columns."""

BY_NAME = {setting.name: setting for setting in SETTINGS}
NAMES = tuple(BY_NAME)
LOADS = tuple(s for s in SETTINGS if s.role is Role.LOAD)
SURROUNDINGS = tuple(s for s in SETTINGS if s.role is Role.SURROUNDINGS)
REMEDIES = tuple(s for s in SETTINGS if s.role is Role.REMEDY)
ALIKE = tuple(s for s in SETTINGS if s.role is not Role.REMEDY)
"""In which runs must agree to be set against each other: all settings but the remedy."""


def settings_of(config: Config) -> dict[str, Any]:
    """Every column's value for the `config` of a result document."""
    return {setting.name: setting.value(config.get(setting.of)) for setting in SETTINGS}


def values_of(row: Settings, settings: tuple[Setting, ...]) -> tuple[Any, ...]:
    """The values of some settings, which can be a key."""
    return tuple(row[setting.name] for setting in settings)
