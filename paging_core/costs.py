"""The cost table: nanoseconds per event, each an interval with its source, all overridable.

The defaults are in default_costs.py. A TOML file gives others, a number or the interval
``[low, typical, high]``, and may say where they come from::

    [ns]
    fixup = 1500
    shadow_page_build = [1000, 2500, 3000]

    [source]
    fixup = "measured on a machine of 2015"

Those of a year or a machine that lie in ``cost_files`` are known by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paging_core.default_costs import DEFAULTS
from paging_core.errors import BadCosts
from paging_core.events import N_EVENTS, Event
from paging_core.reading import read_toml
from paging_core.text import printable, shown
from paging_core.units import PS_PER_NS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_ACCESS_NS = 0.001
MAX_NS = 1_000_000
"""One operation can be a fault on every page of a terabyte: even that overflows no guest time."""
MAX_SOURCE_CHARS = 1000
_OF_INTERVAL = 3
_FILES = resources.files("paging_core") / "cost_files"
_NAMES = frozenset(event.name.lower() for event in Event)  # looked up for every price


class Level(StrEnum):
    """Which price of each interval is charged."""

    LOW = "low"
    TYPICAL = "typical"
    HIGH = "high"


Span = tuple[float, float]
"""The least and the most that an event may cost, nanoseconds."""


@dataclass(frozen=True)
class CostTable:
    """Prices of all events: the defaults with some of them overridden.

    Attributes:
        overrides_ns: nanoseconds that are charged, by lower-case event name.
        spans_ns: of those, between which they lie; one that is missing is exact.
        sources: of those, where they come from, as far as somebody said.
    """

    overrides_ns: Mapping[str, float] = field(default_factory=dict)
    spans_ns: Mapping[str, Span] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name, ns in self.overrides_ns.items():
            _check_event(name)
            _check_price(name, ns)
        for name, span in self.spans_ns.items():
            self._check_span(name, span)
        if self.overrides_ns.get("access", 1) < MIN_ACCESS_NS:
            raise BadCosts(
                f"cost access must be at least {MIN_ACCESS_NS} ns, or guest time stands still"
            )

    def _check_span(self, name: str, span: Span) -> None:
        _check_event(name)
        if name not in self.overrides_ns:
            raise BadCosts(f"cost {name} has a low and a high price and none that is charged")
        for ns in span:
            _check_price(name, ns)
        low, high = span
        if not low <= self.overrides_ns[name] <= high:
            raise BadCosts(
                f"cost {name} = {low:g}, {self.overrides_ns[name]:g}, {high:g} is no interval: "
                "low, typical, high must ascend"
            )

    @classmethod
    def from_toml(cls, path: Path) -> CostTable:
        """Read overrides from the ``[ns]`` table of a TOML file.

        Raises:
            BadCosts: unreadable, not TOML, or a figure that cannot be.
        """
        document = read_toml(path, lambda line: BadCosts(f"cost table: {line}"))
        table = document.get("ns")
        if not set(document) <= {"ns", "source"} or not isinstance(table, dict):
            raise BadCosts(
                f"cost table {path} must hold one table [ns] of event = nanoseconds, and at most "
                "[source] beside it"
            )
        prices = {name: _interval(name, given) for name, given in table.items()}
        return cls(
            {name: typical for name, (_, typical, _) in prices.items()},
            {name: (low, high) for name, (low, _, high) in prices.items() if low != high},
            _sources(document.get("source", {}), table, path),
        )

    @classmethod
    def named(cls, text: str) -> CostTable:
        """What ``--costs`` means: a level, a table by name, a file; the last two with a level.

        Args:
            text: ``low``, ``xen-2009``, ``costs.toml``, ``xen-2009:high``, …

        Raises:
            BadCosts: no such table, or none.
        """
        place, colon, level = text.rpartition(":")
        if level not in list(Level):
            place, colon, level = text, "", Level.TYPICAL
        elif not colon:
            place = ""
        elif not place:
            raise BadCosts(f"costs {shown(text)} name no table before the colon; write {level}")
        table = cls() if not place else cls.from_toml(_file(place))
        return table.at(Level(level))

    def at(self, level: Level) -> CostTable:
        """The same intervals, another price of each charged."""
        if level is Level.TYPICAL:
            return self
        spans = {event.name.lower(): self.span_ns(event) for event in Event}
        pick = 0 if level is Level.LOW else 1
        return CostTable(
            {**self.overrides_ns, **{n: s[pick] for n, s in spans.items() if s[0] != s[1]}},
            {name: span for name, span in spans.items() if span[0] != span[1]},
            self.sources,
        )

    def ns(self, event: Event) -> float:
        """Nanoseconds of one event."""
        return self.overrides_ns.get(event.name.lower(), DEFAULTS[event].typical)

    def span_ns(self, event: Event) -> Span:
        """The least and the most that one event may cost."""
        name = event.name.lower()
        if name in self.spans_ns:
            return self.spans_ns[name]
        if name in self.overrides_ns:
            return (self.overrides_ns[name], self.overrides_ns[name])
        return (DEFAULTS[event].low, DEFAULTS[event].high)

    def source(self, event: Event) -> str:
        """Where the price of one event comes from; empty where nobody said."""
        name = event.name.lower()
        if name in self.sources or self.span_ns(event) != _default_span(event):
            return self.sources.get(name, "")
        return DEFAULTS[event].source

    def prices_ns(self) -> dict[str, float]:
        """Nanoseconds of every event by its lower-case name."""
        return {event.name.lower(): self.ns(event) for event in Event}

    def as_picoseconds(self) -> npt.NDArray[np.int64]:
        """All prices for the kernels, int64 picoseconds, shape (N_EVENTS,)."""
        # Here and not above: every command of the command line reads the declarations of settings.
        import numpy as np  # noqa: PLC0415

        prices = np.zeros(N_EVENTS, np.int64)
        for event in Event:
            prices[event] = round(self.ns(event) * PS_PER_NS)
        return prices


def names_no_file(text: str) -> bool:
    """Whether ``--costs`` would take a text for something that is known by name."""
    place, colon, level = text.rpartition(":")
    return text in list(Level) or (place if colon and level in list(Level) else text) in known()


def known() -> list[str]:
    """Names of the tables that lie beside this module."""
    return sorted(
        file.name.removesuffix(".toml") for file in _FILES.iterdir() if file.name.endswith(".toml")
    )


def _file(place: str) -> Path:
    return Path(str(_FILES / f"{place}.toml")) if place in known() else Path(place)


def _default_span(event: Event) -> Span:
    return (DEFAULTS[event].low, DEFAULTS[event].high)


def _check_event(name: str) -> None:
    if name not in _NAMES:
        raise BadCosts(
            f"cost {shown(name)} is no event of the model; known: {', '.join(sorted(_NAMES))}"
        )


def _check_price(name: str, ns: object) -> None:
    if isinstance(ns, bool) or not isinstance(ns, int | float) or not 0 <= ns <= MAX_NS:
        raise BadCosts(
            f"cost {name} = {printable(repr(ns)[:60])} is not a number of nanoseconds "
            f"from 0 to {MAX_NS}"
        )


def _interval(name: str, given: Any) -> tuple[Any, Any, Any]:
    if not isinstance(given, list):
        return (given, given, given)
    if len(given) != _OF_INTERVAL:
        raise BadCosts(
            f"cost {shown(name)} is a list of {len(given)}; give a number or [low, typical, high]"
        )
    for ns in given:
        _check_price(shown(name), ns)
    return (given[0], given[1], given[2])


def _sources(given: Any, table: Mapping[str, Any], path: Path) -> dict[str, str]:
    if not isinstance(given, dict) or not given.keys() <= table.keys():
        raise BadCosts(f"cost table {path}: [source] must name events of its [ns], as texts")
    for name, text in given.items():
        if not isinstance(text, str) or len(text) > MAX_SOURCE_CHARS:
            raise BadCosts(
                f"cost table {path}: the source of {shown(name)} is no text of at most "
                f"{MAX_SOURCE_CHARS} characters"
            )
    return dict(given)


SINCE_0_1 = frozenset(
    {
        Event.P2M_SYNC, Event.PAGE_DIGEST, Event.CR3_LOAD, Event.INVLPG, Event.UFFD_FAULT,
        Event.UFFD_OPEN, Event.UFFD_PROTECT, Event.HOST_FAULT, Event.SLOT_LOOKUP,
        Event.P2M_FAST_FAULT, Event.GUEST_FILE_CALL,
    }
)  # fmt: skip
"""Events that came after version 0.1, of which results of then have no price."""


def prices_schema() -> dict[str, Any]:
    """The prices of all events, as JSON Schema; documents of before an event was there lack it."""
    names = [event.name.lower() for event in Event]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [event.name.lower() for event in Event if event not in SINCE_0_1],
        "properties": {name: {"type": "number", "minimum": 0} for name in names},
    }
