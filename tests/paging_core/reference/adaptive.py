"""Adaptive groups of gfns in plain Python, straight from docs/adaptive.md."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.paging_core.reference.tracker import run_of, runs_of

ORDERS = range(10)
FAULT_PS = (840 + 500 + 300 + 30) * 1000
"""Exit, P2M violation, sync and mark, as the default cost table has them."""
FALSE_PS = {False: (10 + 30 + 10 + 3300) * 1000, True: (10 + 30 + 10 + 400) * 1000}
"""Open, mark, look, and send a page; or, if the sender suppresses, digest it."""


def region_of(gfn: int) -> int:
    """The 512 frames that a frame belongs to."""
    return gfn // 512


@dataclass
class AdaptiveGroups:
    """What is dirty, and which orders the regions have.

    Attributes:
        n_frames: of the guest.
        suppressed: a sender said that unchanged frames go as digests.
        orders: by region; 0 where nothing is said.
    """

    n_frames: int
    suppressed: bool = False
    orders: dict[int, int] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    _written: set[int] = field(default_factory=set)
    _before: set[int] = field(default_factory=set)
    _history: dict[int, list[int]] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)

    def write(self, gfn: int) -> None:
        """A store."""
        self._written.add(gfn)
        if gfn not in self.dirty:
            self.dirty.add(gfn)
            self.dirty |= run_of(gfn, 2 ** self._order(gfn), self.n_frames)

    def clean(self) -> set[int]:
        """Get and clear, and learn."""
        for region in range(-(-self.n_frames // 512)):
            last = self._costs(region, self._before)
            history = self._history.get(region, [0] * 10)
            old = [(history[j] + last[j]) // 2 for j in ORDERS]
            new = self._costs(region, self._written)
            self._history[region] = old
            self.orders[region] = min(ORDERS, key=lambda j: old[j] + new[j])
        self._known |= {region_of(gfn) for gfn in self._written}
        self._before, self._written = self._written, set()
        dirty, self.dirty = self.dirty, set()
        return dirty

    def _order(self, gfn: int) -> int:
        eighths = 6 if region_of(gfn) in self._known else 4
        fitting = [j for j in ORDERS[1:] if gfn - gfn % 2**j + 2**j <= self.n_frames]
        dense = [j for j in fitting if self._is_dense(run_of(gfn, 2**j, self.n_frames), eighths)]
        return max([0, self.orders.get(region_of(gfn), 0), *dense])

    def _is_dense(self, run: set[int], eighths: int) -> bool:
        found = len(run & self.dirty)
        return found > 1 and found * 8 >= eighths * len(run)

    def _costs(self, region: int, written: set[int]) -> list[int]:
        here = {gfn for gfn in written if region_of(gfn) == region}
        costs = []
        for order in ORDERS:
            covered = runs_of(here, 2**order, (region + 1) * 512)
            runs, false = len(covered) // 2**order, len(covered - here)
            costs.append(runs * FAULT_PS + false * FALSE_PS[self.suppressed])
        return costs
