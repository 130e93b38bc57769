"""The settings of a migration as columns: what a sweep's table has, joins on and tells apart.

One list, in which every setting of the result document's `config` stands once or more (the trace
in two columns). From it come the columns of ``results.parquet``, the keys on which runs are set
against each other (`ALIKE`: all settings but those that a remedy consists of), and what the report
names where a sweep has more than one value. A setting that nobody calls anything else is part of
the surroundings, so that runs which differ in it are never taken for one another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pyarrow as pa

from paging_core.config import CLEAN_POLICIES, GroupScope, Paging
from paging_core.costs import CostTable
from paging_core.events import Event
from paging_core.units import format_bytes, format_ns

ADAPTIVE_PAGES = 0
"""`group_pages` of groups that learn their size, in the table."""
_DEFAULT_COSTS = {event.name.lower(): CostTable().ns(event) for event in Event}

Settings = Mapping[str, Any]
"""A value for each column."""
Config = Mapping[str, Any]
"""The `config` of a result document."""


class Role(Enum):
    """What a setting is to somebody who compares runs."""

    LOAD = "load"
    """What the guest runs. Runs of unlike loads are never added up."""
    REPETITION = "repetition"
    """Another of the same: a mean and a spread, never a sum."""
    SURROUNDINGS = "surroundings"
    """Where it ran. Unlike surroundings are told apart by name, never added up."""
    REMEDY = "remedy"
    """What was done about the faults: the axis that is in question."""


@dataclass(frozen=True)
class Setting:
    """One column.

    Attributes:
        name: of the column; its unit is its ending.
        kind: type of the column.
        role: see `Role`.
        title: in a table's head.
        show: its value in words that name the setting as well.
        key: of the document's `config`; its name if empty.
        value: from that key's value to the column's.
        plain: of a remedy, by kind of paging: the value of single pages and nothing else.
    """

    name: str
    kind: pa.DataType
    role: Role
    title: str
    show: Callable[[Any], str]
    key: str = ""
    value: Callable[[Any], Any] = lambda value: value
    plain: Callable[[str], Any] | None = None

    @property
    def of(self) -> str:
        """The key of the document's `config` that it shows."""
        return self.key or self.name


def _named(name: str) -> Callable[[Any], str]:
    return lambda value: f"{name} {value}"


def _switch(on: str, off: str) -> Callable[[Any], str]:
    return lambda value: on if value else off


def _rate(bits_per_s: int | None) -> str:
    if bits_per_s is None:
        return "no modelled link"
    for unit, scale in (("Tbit/s", 10**12), ("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 1000)):
        if bits_per_s >= scale:
            return f"{bits_per_s / scale:.12g} {unit}"
    return f"{bits_per_s} bit/s"


def _exact_ns(ns: int) -> str:
    shown = format_ns(ns)
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("µs", 1000)):
        if ns >= scale:
            return f"{ns / scale:.12g} {unit}"
    return shown


def _exact_bytes(n_bytes: int) -> str:
    """A size whose digits are all there: two sizes never read alike."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes >= scale and n_bytes % (scale >> 10) == 0:
            return f"{n_bytes / scale:.12g} {unit}"
    return format_bytes(n_bytes)


def _costs(text: str) -> str:
    costs = json.loads(text)
    other = [f"{k} {ns:g} ns" for k, ns in costs.items() if ns != _DEFAULT_COSTS.get(k)]
    return f"costs with {', '.join(other)}" if other else "default costs"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _file(trace: Mapping[str, Any] | None) -> str:
    return str(trace["file"]) if trace else ""


def _digest(trace: Mapping[str, Any] | None) -> str | None:
    return trace["xxh3_64"] if trace else None


def _pages(pages: int | str) -> int:
    return ADAPTIVE_PAGES if pages == "adaptive" else int(pages)


def _size(pages: int) -> str:
    return "adaptive" if pages == ADAPTIVE_PAGES else f"n = {pages}"


def _first_clean(paging: str) -> str:
    return CLEAN_POLICIES[Paging(paging)][0].value


def _own_scope(paging: str) -> str:
    shadow = Paging(paging) is Paging.SHADOW
    return (GroupScope.VIRTUAL if shadow else GroupScope.PHYSICAL).value


_L, _R, _S, _V = Role.LOAD, Role.REPETITION, Role.SURROUNDINGS, Role.REMEDY
_TEXT, _INT, _BIG, _BOOL = pa.string(), pa.int32(), pa.int64(), pa.bool_()

SETTINGS: tuple[Setting, ...] = (
    Setting("workload", _TEXT, _L, "workload", str, value=lambda spec: spec or ""),
    Setting("trace", _TEXT, _L, "trace", str, value=_file),
    Setting("trace_xxh3_64", _TEXT, _L, "trace content", _named("content"), "trace", _digest),
    Setting("memory_bytes", _BIG, _S, "memory", lambda n: f"{_exact_bytes(n)} of memory"),
    Setting("fill", _TEXT, _S, "fill", _named("fill")),
    Setting("paging", _TEXT, _S, "paging", str),
    Setting("clean", _TEXT, _V, "clean", str, plain=_first_clean),
    Setting(
        "clear_chunk_bytes", _BIG, _V, "clear chunk",
        lambda n: f"by {_exact_bytes(n)}", plain=lambda _: None,
    ),
    Setting("pml", _BOOL, _V, "PML", _switch("PML", "no PML"), plain=lambda _: False),
    Setting("group_pages", _INT, _V, "pages", _size, value=_pages, plain=lambda _: 1),
    Setting(
        "group_trigger", _INT, _V, "trigger", _named("from dirty frame"), plain=lambda _: 1
    ),
    Setting(
        "group_scope", _TEXT, _V, "scope",
        lambda scope: "runs of gfns" if scope == "physical" else "runs of entries",
        plain=_own_scope,
    ),
    Setting(
        "d_bit_filter", _BOOL, _V, "D-bit filter",
        _switch("D-bit filter", "no D-bit filter"), plain=lambda _: False,
    ),
    Setting("prefetch", _BOOL, _S, "prefetch", _switch("prefetch", "no prefetch")),
    Setting(
        "out_of_sync", _BOOL, _S, "out of sync", _switch("out of sync", "never out of sync")
    ),
    Setting("shadow_pool_frames", _BIG, _S, "shadow pool", _named("shadow pool")),
    Setting("tlb_entries", _INT, _S, "TLB", lambda n: f"TLB of {n}"),
    Setting("costs_ns", _TEXT, _S, "costs", _costs, value=_canonical),
    Setting("clock", _TEXT, _S, "clock", lambda name: f"{name} clock"),
    Setting("suppress", _BOOL, _S, "digests", _switch("digests", "no digests")),
    Setting(
        "zstd_level", _INT, _S, "zstd",
        lambda level: "zstd where it pays" if level is None else f"zstd {level}",
    ),
    Setting("link_bits_per_s", _BIG, _S, "link", _rate),
    Setting(
        "latency_ns", _BIG, _S, "latency",
        lambda ns: "no modelled latency" if ns is None else f"latency {_exact_ns(ns)}",
    ),
    Setting("policy", _TEXT, _S, "policy", _named("policy")),
    Setting(
        "downtime_limit_ns", _BIG, _S, "downtime limit",
        lambda ns: f"downtime limit {_exact_ns(ns)}",
    ),
    Setting("max_rounds", _INT, _S, "max rounds", lambda n: f"at most {n} rounds"),
    Setting("warmup_ns", _BIG, _S, "warm-up", lambda ns: f"warm-up {_exact_ns(ns)}"),
    Setting("seed", _BIG, _R, "seed", _named("seed")),
)  # fmt: skip
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
