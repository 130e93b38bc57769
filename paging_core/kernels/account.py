"""Counting and pricing events: the only place where guest time is spent by the hypervisor."""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.kernels.state import Machine

BASE = -1
"""Cause of events that the guest would pay untracked as well."""


@kernel
def pay(m: Machine, event: int, cause: int, times: int) -> None:
    """Count `times` events and charge them to a tracking cause, or to BASE."""
    host = m.host[0]
    cost_ps = host.cost_ps[event] * times
    host.spent_ps += cost_ps
    if cause == BASE:
        host.base_ps += cost_ps
        host.base_events[event] += times
    else:
        host.cause_ps[cause] += cost_ps
        host.tracking_events[event] += times


@kernel
def count_fault(m: Machine, kind: int) -> None:
    """Count one fault of a kind (`paging_core.events.Fault`)."""
    m.host[0].faults[kind] += 1
