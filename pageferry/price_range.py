"""What the same events take at other prices: the low and the high end of each interval.

A migration counts its events and charges them at one price each. The counts allow to price the same
run again, exactly. Where prices feed back into what happens (on the virtual clock a slower guest
writes less in a round) a run at those prices would be a little different: the range prices the same
events, and only ``--costs low`` or ``high`` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pageferry.v1 import common_pb2
from paging_core.config import GuestKind
from paging_core.costs import CostTable, Level
from paging_core.guest_accounts import accounts_of

UNATTRIBUTED = "unattributed"
"""What the causes do not explain of the time between the tracked guest and its twin."""


@dataclass(frozen=True)
class Charged:
    """What a guest was charged, by what it is charged to.

    Attributes:
        time_ns: of `base` where it is known, of each cause, and of `untracked` where there was a
            twin.
        events: as `GuestCounters.events_by`.
    """

    time_ns: Mapping[str, int]
    events: Mapping[str, Mapping[str, int]]

    def at(self, costs: CostTable, level: Level) -> Charged:
        """The same events at one end of their intervals."""
        prices, other = costs.prices_ns(), costs.at(level).prices_ns()
        if level is Level.TYPICAL:
            return self
        return Charged(
            {
                name: round(
                    ns + sum(
                        n * (other[event] - prices[event])
                        for event, n in self.events.get(name, {}).items()
                        if event in prices
                    )
                )
                for name, ns in self.time_ns.items()
            },
            self.events,
        )  # fmt: skip

    @property
    def causes_ns(self) -> dict[str, int]:
        """Of each cause."""
        return {k: ns for k, ns in self.time_ns.items() if k not in {"base", "untracked"}}

    @property
    def tracked_ns(self) -> int | None:
        """Guest time while it was tracked; None where its base is not known."""
        base_ns = self.time_ns.get("base")
        return None if base_ns is None else base_ns + sum(self.causes_ns.values())

    @property
    def slowdown(self) -> float | None:
        """Tracked time over the twin's; 1.0 where nothing ran, None without a twin."""
        untracked_ns, tracked_ns = self.time_ns.get("untracked"), self.tracked_ns
        if untracked_ns is None or tracked_ns is None:
            return None
        return tracked_ns / untracked_ns if untracked_ns else 1.0

    def by_cause(self) -> dict[str, int]:
        """The guest's time: `base`, each cause and, with a twin, what none of them explains.

        They add up to the tracked time. `base` is the twin's time where there is one, and absent
        where nobody knows it.
        """
        untracked_ns, base_ns = self.time_ns.get("untracked"), self.time_ns.get("base")
        if base_ns is None:
            return self.causes_ns
        if untracked_ns is None:
            return {"base": base_ns, **self.causes_ns}
        return {"base": untracked_ns, **self.causes_ns, UNATTRIBUTED: base_ns - untracked_ns}


def charged_of(cost: common_pb2.GuestCost, kind: GuestKind) -> Charged:
    """What a status says that a guest of that kind was charged."""
    causes = tuple(accounts_of(kind).causes)
    time_ns = {"base": cost.base_ns} if cost.HasField("base_ns") else {}
    time_ns |= {cause: cost.tracking_ns.get(cause, 0) for cause in causes}
    if cost.HasField("untracked_ns"):
        time_ns["untracked"] = cost.untracked_ns
    known = ("base", "untracked", *causes)
    by = {each.charged_to: dict(each.counts) for each in cost.events_by}
    return Charged(time_ns, {name: by[name] for name in known if name in by})
