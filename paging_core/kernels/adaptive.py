"""Groups that learn their size, region by region (docs/adaptive.md).

A region is 512 frames. At each clean the tracker knows which of them were written: those that
faulted, and those that a group opened and whose D bit the hardware set. With groups of 2**j
frames that round would have cost

    runs[j] × a fault  +  (runs[j] × 2**j − written) × a false dirty

where `runs[j]` counts the aligned runs of that size in which anything was written. Rounds
before count half as much with every clean; the cheapest order is the region's until the next.
Within a round a group is larger than that where enough of it is dirty already (density.py):
that is what finds a new writer, in the first and longest round above all.

Integers throughout, and nothing that a hypervisor could not know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paging_core.compiled import kernel
from paging_core.events import Event
from paging_core.kernels.arrays import awaiting_send, groups
from paging_core.kernels.state import SHADOW, Core
from paging_core.units import PS_PER_NS

MAX_ORDER = 9
N_ORDERS = MAX_ORDER + 1
REGION_SHIFT = 9
ORDER = 0
"""Word of a region: log2 of the groups that its history wants."""
LAST = 1
"""Its last written frame that this clean has come by, plus one."""
KNOWN = 2
"""1 once anything was seen written in it."""
UNCHANGED = 3
"""Frames taken for written in the last round of which the sender found out better."""
RUNS = 4
"""By order, aligned runs that were written in the last round; `RUNS` itself: frames."""
COST = RUNS + N_ORDERS
"""By order, what the rounds before it would have cost, ps; each counts half the next."""
REGION_WORDS = COST + N_ORDERS

PAGE_PS = 3300 * PS_PER_NS
"""A false dirty that is sent: a page at 10 Gbit/s. The tracker does not know the link."""
DENSE_AT_FIRST = 4
"""Eighths of a run that are dirty when it opens, where nothing was seen written before."""
DENSE_LATER = 6
"""Likewise where there is a history, which knows better what is written together."""

_EXIT = int(Event.EXIT)
_VIOLATION = int(Event.P2M_VIOLATION)
_FIXUP = int(Event.FIXUP)
_OPEN = int(Event.GROUP_OPEN)
_SCAN = int(Event.D_BIT_SCAN)
_MARK = int(Event.MARK_DIRTY)
_SYNC = int(Event.P2M_SYNC)
_DIGEST = int(Event.PAGE_DIGEST)


@kernel
def _region(gfn: int) -> int:
    """Where the words of a frame's region begin."""
    return (gfn >> REGION_SHIFT) * REGION_WORDS


@kernel
def _words(m: Core) -> int:
    return _region(m.n_frames - 1) + REGION_WORDS


@kernel
def reset_groups(m: Core) -> None:
    """Tracking starts: nothing is known of any region."""
    m.group.send_feedback = 0
    for i in range(_words(m)):
        groups(m)[i] = 0
    for i in range(m.log.dirty_words):
        awaiting_send(m)[i] = 0


@kernel
def learned_order(m: Core, gfn: int) -> int:
    """log2 of the group that history wants around a frame."""
    return groups(m)[_region(gfn) + ORDER]


@kernel
def wanted_density(m: Core, gfn: int) -> int:
    """Eighths of a run around a frame that must be dirty for it to open whole."""
    return DENSE_LATER if groups(m)[_region(gfn) + KNOWN] else DENSE_AT_FIRST


@kernel
def _fault_ps(m: Core) -> int:
    """What a fixup fault costs, all of it."""
    fault = _FIXUP if m.paging == SHADOW else _VIOLATION
    fault_ps = m.time.cost_ps[_EXIT] + m.time.cost_ps[fault] + m.time.cost_ps[_MARK]
    return fault_ps + (m.time.cost_ps[_SYNC] if m.hap.syncs and m.paging != SHADOW else 0)


@kernel
def _last_cost(m: Core, region: int, order: int, false_ps: int) -> int:
    """What the last round would have cost in a region with groups of this order."""
    fault_ps = _fault_ps(m)
    runs = groups(m)[region + RUNS + order]
    false = (runs << order) - groups(m)[region + RUNS]
    if order > 0:
        false += groups(m)[region + UNCHANGED]
    return runs * fault_ps + false * false_ps


@kernel
def _false_ps(m: Core, drop: bool) -> int:
    """What a false dirty costs: little if a filter drops it or a digest suppresses it."""
    sent_ps = 0 if drop else (m.time.cost_ps[_DIGEST] if m.group.send_feedback else PAGE_PS)
    return m.time.cost_ps[_OPEN] + m.time.cost_ps[_MARK] + m.time.cost_ps[_SCAN] + sent_ps


@kernel
def add_round_to_history(m: Core, drop: bool) -> None:
    """A clean begins: the last round, with all the sender reported of it, becomes history.

    Args:
        drop: frames that groups opened and nobody wrote leave the bitmap (the D-bit filter).
    """
    false_ps = _false_ps(m, drop)
    for region in range(0, _words(m), REGION_WORDS):
        for order in range(N_ORDERS):
            cost = groups(m)[region + COST + order] + _last_cost(m, region, order, false_ps)
            groups(m)[region + COST + order] = cost >> 1
        for order in range(N_ORDERS):
            groups(m)[region + RUNS + order] = 0
        groups(m)[region + LAST] = 0
        groups(m)[region + UNCHANGED] = 0
    for i in range(m.log.dirty_words):
        awaiting_send(m)[i] = 0


@kernel
def note_written(m: Core, gfn: int, unknown: bool) -> None:
    """A clean found a frame that was written in the round that ends; gfns come ascending.

    Args:
        unknown: D bits cannot tell whether it was written; the sender will.
    """
    region = _region(gfn)
    last = groups(m)[region + LAST] - 1
    order = 0
    while order < N_ORDERS and (last < 0 or (gfn ^ last) >> order != 0):
        groups(m)[region + RUNS + order] += 1
        order += 1
    groups(m)[region + LAST] = gfn + 1
    if unknown:
        awaiting_send(m)[gfn >> 6] |= 1 << (gfn & 63)


@kernel
def note_sent(m: Core, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
    """The sender knows which frames had changed: that decides where D bits could not."""
    m.group.send_feedback = 1
    for i in range(len(gfns)):
        gfn = gfns[i]
        bit = 1 << (gfn & 63)
        if awaiting_send(m)[gfn >> 6] & bit == 0:
            continue
        awaiting_send(m)[gfn >> 6] &= ~bit
        if changed[i] == 0:
            groups(m)[_region(gfn) + UNCHANGED] += 1


@kernel
def adapt_groups(m: Core, drop: bool) -> None:
    """Every region takes the order that its rounds so far would have cost least with."""
    false_ps = _false_ps(m, drop)
    for region in range(0, _words(m), REGION_WORDS):
        best, least = 0, 1 << 62
        for order in range(N_ORDERS):
            cost = groups(m)[region + COST + order] + _last_cost(m, region, order, false_ps)
            if cost < least:
                best, least = order, cost
        groups(m)[region + ORDER] = best
        if groups(m)[region + RUNS] > 0:
            groups(m)[region + KNOWN] = 1
