"""The cost table: nanoseconds per event, each with its source, all overridable.

Shadow-side costs have no published figure; those defaults are orders of magnitude, and
every one is a knob. A TOML file overrides them::

    [ns]
    fixup = 1500
    shadow_page_build = 2500
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paging_core.errors import BadCosts
from paging_core.events import N_EVENTS, Event, EventCost
from paging_core.reading import read_toml
from paging_core.text import printable, shown
from paging_core.units import PS_PER_NS

MIN_ACCESS_NS = 0.001
MAX_NS = 1_000_000
"""One operation can be a fault on every page of a terabyte: even that overflows no guest time."""
_ESTIMATE = "estimate; no published figure, order of magnitude only"

DEFAULTS: Mapping[Event, EventCost] = {
    Event.ACCESS: EventCost(1, "L1-resident load or store at 3 to 4 GHz"),
    Event.GUEST_FAULT: EventCost(700, "estimate; a minor fault of a Linux guest, without exits"),
    Event.GUEST_PAGE_CLEAR: EventCost(100, "4 KiB at 40 GB/s"),
    Event.GUEST_PAGE_COPY: EventCost(200, "4 KiB at 20 GB/s (memcpy, one core)"),
    Event.TLB_MISS_1D: EventCost(30, "20 to 40 ns: four dependent loads, mostly cached"),
    Event.TLB_MISS_2D: EventCost(80, "40 to 120 ns: up to 24 loads of a two-dimensional walk"),
    Event.TLB_FLUSH: EventCost(5000, "2 to 10 µs for all vCPUs of a guest; estimate"),
    Event.EXIT: EventCost(
        1000, "exit and entry with handler entry; 1344 to 2528 cycles (LKML, SEV-ES 2020-12)"
    ),
    Event.FIXUP: EventCost(500, f"walk, lock, entry update; {_ESTIMATE}"),
    Event.SHADOW_L1E_BUILD: EventCost(1000, f"walk, verify, propagate one L1 entry; {_ESTIMATE}"),
    Event.SHADOW_PREFETCH: EventCost(10, f"one prefetched L1 entry; {_ESTIMATE}"),
    Event.SHADOW_PAGE_BUILD: EventCost(2000, f"1 to 3 µs: clear, promote, hash, hook; {_ESTIMATE}"),
    Event.SHADOW_TEARDOWN_PAGE: EventCost(1500, f"1 to 2 µs: unhash, demote, free; {_ESTIMATE}"),
    Event.SHADOW_TEARDOWN_ENTRY: EventCost(10, f"put one present entry; {_ESTIMATE}"),
    Event.EMULATED_WRITE: EventCost(
        2000, f"x86_emulate and validate, beside the exit; {_ESTIMATE}"
    ),
    Event.WRITE_PROTECT_FRAME: EventCost(
        30, "20 to 70 ns; KVM clear-log of 2 GiB in 15.8 ms (Matlack 2022): 30 ns a frame"
    ),
    Event.OUT_OF_SYNC: EventCost(300, f"4 KiB snapshot and bookkeeping; {_ESTIMATE}"),
    Event.RESYNC: EventCost(500, f"compare 512 entries with the snapshot; {_ESTIMATE}"),
    Event.MARK_DIRTY: EventCost(10, f"four-level trie walk and test-and-set; {_ESTIMATE}"),
    Event.GROUP_OPEN: EventCost(10, "5 to 20 ns a frame while the entries share a table; estimate"),
    Event.D_BIT_SCAN: EventCost(
        10, "one opened entry read at clean time; as Xen's VRAM tracker does; estimate"
    ),
    Event.BITMAP_COPY: EventCost(
        500, "one 4 KiB leaf for 32768 frames: copy, clear, trie walk; estimate"
    ),
    Event.P2M_VIOLATION: EventCost(
        500, "beside the exit; 224 to 320 ns whole on KVM EPT (Matlack 2022), Xen re-reads more"
    ),
    Event.P2M_MISCONFIG: EventCost(300, f"beside the exit; {_ESTIMATE}"),
    Event.P2M_REARM_ENTRY: EventCost(1, "one entry rewritten in a loop over a table; estimate"),
    Event.P2M_SPLIT: EventCost(
        3000, "2 to 5 µs; KVM eager splitting 31.5 µs per 2 MiB with 96 vCPUs (Matlack 2022)"
    ),
    Event.PML_FULL: EventCost(500, f"handler and lock, beside the exit; {_ESTIMATE}"),
    Event.PML_ENTRY: EventCost(5, "type change and mark of one logged frame; estimate"),
}
"""Default price of every event."""


@dataclass(frozen=True)
class CostTable:
    """Prices of all events: the defaults with some of them overridden.

    Attributes:
        overrides_ns: nanoseconds by lower-case event name.
    """

    overrides_ns: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {event.name.lower() for event in Event}
        for name, ns in self.overrides_ns.items():
            if name not in known:
                raise BadCosts(
                    f"cost {shown(name)} is no event of the model; known: "
                    f"{', '.join(sorted(known))}"
                )
            if isinstance(ns, bool) or not isinstance(ns, int | float) or not 0 <= ns <= MAX_NS:
                raise BadCosts(
                    f"cost {name} = {printable(repr(ns)[:60])} is not a number of nanoseconds "
                    f"from 0 to {MAX_NS}"
                )
        if self.overrides_ns.get("access", 1) < MIN_ACCESS_NS:
            raise BadCosts(
                f"cost access must be at least {MIN_ACCESS_NS} ns, or guest time stands still"
            )

    @classmethod
    def from_toml(cls, path: Path) -> CostTable:
        """Read overrides from the ``[ns]`` table of a TOML file.

        Raises:
            BadCosts: unreadable, not TOML, or a figure that cannot be.
        """
        document = read_toml(path, lambda line: BadCosts(f"cost table: {line}"))
        table = document.get("ns")
        if set(document) != {"ns"} or not isinstance(table, dict):
            raise BadCosts(f"cost table {path} must hold one table [ns] of event = nanoseconds")
        return cls(table)

    def ns(self, event: Event) -> float:
        """Nanoseconds of one event."""
        return self.overrides_ns.get(event.name.lower(), DEFAULTS[event].ns)

    def as_picoseconds(self) -> npt.NDArray[np.int64]:
        """All prices for the kernels, int64 picoseconds, shape (N_EVENTS,)."""
        prices = np.zeros(N_EVENTS, np.int64)
        for event in Event:
            prices[event] = round(self.ns(event) * PS_PER_NS)
        return prices
