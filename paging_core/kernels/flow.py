"""Noting events for the flow, in a buffer that its owner empties when it is full.

Nothing is noted, and next to nothing spent, while `m.flow.rows` is 0.
"""

from __future__ import annotations

from paging_core.compiled import kernel
from paging_core.flow import FlowKind
from paging_core.kernels.arrays import flow_at
from paging_core.kernels.calls import call_through
from paging_core.kernels.state import Core

FAULT = int(FlowKind.FAULT)
FIRST_WRITE = int(FlowKind.FIRST_WRITE)
SHADOW_BUILT = int(FlowKind.SHADOW_BUILT)
SHADOW_DROPPED = int(FlowKind.SHADOW_DROPPED)

_flow_full = call_through("flow_full_at")


@kernel
def note(m: Core, kind: int, gfn: int, leader: int, detail: int) -> None:
    """Note one event, now. The caller has seen that `m.flow.rows` is not 0."""
    if m.flow.used == m.flow.rows:
        _flow_full(m, 0, 0, 0)
    row = flow_at(m, m.flow.used)
    row.time_ps = m.time.run_ps + m.time.spent_ps
    row.gfn = gfn
    row.leader = leader
    row.kind = kind
    row.detail = detail
    row.space = m.vcpu.process
    m.flow.used += 1
