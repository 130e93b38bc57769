"""Guests as the contract writes them, and as `paging_core.config` does."""

from __future__ import annotations

from pageferry.v1 import common_pb2
from paging_core.config import GuestConfig
from paging_core.costs import CostTable
from paging_core.errors import BadCosts, BadOption
from paging_core.guest import GuestCounters
from wire.settings import fields_of, put


def guest_config(spec: common_pb2.GuestSpec) -> GuestConfig:
    """What a host builds a guest from.

    Raises:
        InvalidInput: a value outside its domain.
    """
    if spec.trace and spec.workload:
        raise BadOption("a guest runs a workload or replays a trace; give one of the two")
    fields = fields_of(GuestConfig, spec)
    if spec.trace:
        fields["workload"] = ""
    return GuestConfig(**fields, costs=_costs(spec))


def _costs(spec: common_pb2.GuestSpec) -> CostTable:
    low, high = spec.cost_low_ns, spec.cost_high_ns
    if set(low) != set(high):
        raise BadCosts("a guest's costs need a low and a high price, or neither")
    return CostTable(dict(spec.cost_overrides_ns), {name: (low[name], high[name]) for name in low})


def guest_spec(guest_id: str, config: GuestConfig) -> common_pb2.GuestSpec:
    """The same guest for the wire; `guest_config` reads an equal config back."""
    costs = config.costs
    spec = common_pb2.GuestSpec(
        guest_id=guest_id,
        cost_overrides_ns=costs.overrides_ns,
        cost_low_ns={name: low for name, (low, _) in costs.spans_ns.items()},
        cost_high_ns={name: high for name, (_, high) in costs.spans_ns.items()},
    )
    put(config, spec)
    return spec


def guest_cost(counters: GuestCounters) -> common_pb2.GuestCost:
    """What the tracking cost, for a status."""
    return common_pb2.GuestCost(
        faults=counters.faults,
        events=counters.events,
        tracking_ns=counters.tracking_ns,
        base_ns=counters.base_ns,
        accesses=counters.accesses,
        slowdown=counters.slowdown or 0.0,
        untracked_ns=counters.untracked_ns,
        events_by=[
            common_pb2.ChargedEvents(charged_to=name, counts=counts)
            for name, counts in counters.events_by.items()
        ],
    )
