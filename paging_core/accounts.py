"""What a machine's accounts say happened between two moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.events import CAUSES, FAULT_KINDS, N_EVENTS, Event
from paging_core.guest import GuestCounters
from paging_core.kernels.state import Records
from paging_core.units import PS_PER_NS

Counts = npt.NDArray[np.int64]
"""Events by number, shape (N_EVENTS,)."""
Span = tuple[Records, Records]
"""The core record of one machine at two moments, each an array of length 1."""


def counters_between(guest: Span, twin: Span | None) -> GuestCounters:
    """Totals of a guest, and beside them those of its untracked twin.

    Args:
        guest: the guest's machine.
        twin: its twin's over the same operations; None without one.
    """
    then, now = (core["time"][0] for core in guest)
    faults = (now["faults"] - then["faults"]).tolist()
    by_kind = dict(zip(FAULT_KINDS, faults, strict=True))
    by_kind["total"] = sum(faults) - by_kind["fixup"]
    events = _all_events(guest)
    causes = (now["cause_ps"] - then["cause_ps"]) // PS_PER_NS
    named = {"base": now["base_events"] - then["base_events"], **_by_cause(guest)}
    if twin is not None:
        named["untracked"] = _all_events(twin)
    return GuestCounters(
        faults=by_kind,
        events={event.name.lower(): int(events[event]) for event in Event},
        tracking_ns=dict(zip(CAUSES, causes.tolist(), strict=True)),
        base_ns=int(now["base_ps"] - then["base_ps"]) // PS_PER_NS,
        accesses=int(events[Event.ACCESS]),
        untracked_ns=None if twin is None else _time_ps(twin) // PS_PER_NS,
        events_by={name: _named(counts) for name, counts in named.items() if counts.any()},
    )


def _by_cause(machine: Span) -> dict[str, Counts]:
    then, now = (core["time"][0]["cause_events"].reshape(-1, N_EVENTS) for core in machine)
    return dict(zip(CAUSES, now - then, strict=True))


def _all_events(machine: Span) -> Counts:
    then, now = (core["time"][0]["base_events"] for core in machine)
    counts: Counts = sum(_by_cause(machine).values(), now - then)
    return counts


def _time_ps(machine: Span) -> int:
    """Guest time, but for stalls: whatever it is charged to."""
    then, now = (core["time"][0] for core in machine)
    return int(now["base_ps"] - then["base_ps"] + (now["cause_ps"] - then["cause_ps"]).sum())


def _named(counts: Counts) -> dict[str, int]:
    """By name, those that did not happen left out."""
    return {event.name.lower(): int(counts[event]) for event in Event if counts[event]}
