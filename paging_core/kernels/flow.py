"""Noting events for the flow trace, in a buffer that its owner empties when it is full.

Nothing is noted, and next to nothing spent, while `flow_rows` is 0.
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
    """Note one event, now. The caller has seen that `flow_rows` is not 0."""
    if m.flow_used == m.flow_rows:
        _flow_full(m, 0, 0, 0)
    row = flow_at(m, m.flow_used)
    row.time_ps = m.run_ps + m.spent_ps
    row.gfn = gfn
    row.leader = leader
    row.kind = kind
    row.detail = detail
    row.space = m.vcpu.process
    m.flow_used += 1
