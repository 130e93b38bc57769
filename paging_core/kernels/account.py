"""Counting and pricing events: the only place where guest time is spent by the hypervisor."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.events import N_EVENTS, Fault
from paging_core.kernels.flow import FAULT, note
from paging_core.kernels.state import Core

_FIXUP = int(Fault.FIXUP)
BASE = -1
"""Cause of events that the guest would pay untracked as well."""


@kernel
def pay(m: Core, event: int, cause: int, times: int) -> None:
    """Count `times` events and charge them to a tracking cause, or to BASE."""
    cost_ps = m.time.cost_ps[event] * times
    m.time.spent_ps += cost_ps
    if cause == BASE:
        m.time.base_ps += cost_ps
        m.time.base_events[event] += times
    else:
        m.time.cause_ps[cause] += cost_ps
        m.time.cause_events[cause * N_EVENTS + event] += times


@kernel
def count_fault(m: Core, kind: int, gfn: int) -> None:
    """Count one fault of a kind (`paging_core.events.Fault`) on an access to a frame."""
    m.time.faults[kind] += 1
    if m.flow.rows > 0:
        note(m, FAULT, gfn, gfn, kind)


@kernel
def count_fixup(m: Core) -> None:
    """The fault that was counted last opened a clean frame."""
    m.time.faults[_FIXUP] += 1
