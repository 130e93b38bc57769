"""Groups that learn their size, region by region (docs/adaptive.md).

A region is 512 frames. Within a round its groups ramp up: a fixup opens at most RAMP times as
many frames as fixups are known there, so one stray write costs little and a dense region is
open after a few. Between rounds the region's largest group grows or splits by what became of
the frames that groups opened: the hardware's D bit says at the clean who was written, and the
sender's digest, where there is one, who of those had really changed.

Integers throughout, and nothing that a hypervisor could not know.
"""

from __future__ import annotations

from typing import Any

from paging_core.compiled import kernel
from paging_core.kernels.arrays import groups, lessons
from paging_core.kernels.state import Core

REGION_SHIFT = 9
REGION_WORDS = 4
ORDER = 0
"""log2 of the largest group that the region allows."""
FIXUPS = 1
"""Since the last clean."""
USED = 2
"""Opened frames that were written; older rounds count half as much each."""
WASTED = 3
"""Opened frames that were not, or not changed; likewise."""

START_ORDER = 6
MAX_ORDER = 9
RAMP_SHIFT = 2
"""Four frames for each known fixup, where a frame opened in vain costs a digest."""
PROBE_FIXUPS = 32
"""Fixups in one round after which a region without groups tries pairs."""


@kernel
def reset_groups(m: Core) -> None:
    """Tracking starts: nothing is known of any region."""
    m.taught = 0
    for i in range(0, (m.n_frames + 511 >> REGION_SHIFT) * REGION_WORDS, REGION_WORDS):
        groups(m)[i + ORDER] = START_ORDER
        groups(m)[i + FIXUPS] = 0
        groups(m)[i + USED] = 0
        groups(m)[i + WASTED] = 0


@kernel
def learned_size(m: Core, gfn: int) -> int:
    """Frames of the group that a fixup of `gfn` opens now; counts the fixup."""
    region = (gfn >> REGION_SHIFT) * REGION_WORDS
    groups(m)[region + FIXUPS] += 1
    most = groups(m)[region + FIXUPS] << (RAMP_SHIFT if m.taught else 0)
    n = 1 << groups(m)[region + ORDER]
    while n > most:
        n >>= 1
    return n


@kernel
def note_use(m: Core, gfn: int, used: bool) -> None:
    """A clean found out whether the hardware wrote an opened frame."""
    region = (gfn >> REGION_SHIFT) * REGION_WORDS
    groups(m)[region + (USED if used else WASTED)] += 1
    if used:
        lessons(m)[gfn >> 6] |= 1 << (gfn & 63)


@kernel
def learn_sent(m: Core, gfns: Any, changed: Any) -> None:
    """The sender knows which frames had changed: those that groups opened are a lesson."""
    m.taught = 1
    for i in range(len(gfns)):
        gfn = gfns[i]
        bit = 1 << (gfn & 63)
        if lessons(m)[gfn >> 6] & bit == 0:
            continue
        lessons(m)[gfn >> 6] &= ~bit
        if changed[i] == 0:
            region = (gfn >> REGION_SHIFT) * REGION_WORDS
            groups(m)[region + WASTED] += 1
            if groups(m)[region + USED] > 0:
                groups(m)[region + USED] -= 1


@kernel
def forget_lessons(m: Core) -> None:
    """A clean begins: what was opened before it is over."""
    for i in range(m.dirty_words):
        lessons(m)[i] = 0


@kernel
def _grown(order: int, used: int, wasted: int, taught: bool) -> int:
    """The order that fits what became of the frames that groups opened."""
    opened = used + wasted
    enough, too_few = (4, 16) if taught else (1, 2)
    if taught:
        grows, splits = used * enough >= opened, used * too_few < opened
    else:
        grows, splits = wasted * 3 <= used, used * too_few < opened
    if grows:
        return min(order + 1, MAX_ORDER)
    return max(order - 1, 0) if splits else order


@kernel
def adapt_groups(m: Core) -> None:
    """Every region grows, splits, tries again or stays as it is.

    Done when all is known of a round: at its clean where D bits are all there is, at the next
    one where the sender had something to add.
    """
    for i in range(0, (m.n_frames + 511 >> REGION_SHIFT) * REGION_WORDS, REGION_WORDS):
        order, used, wasted = groups(m)[i + ORDER], groups(m)[i + USED], groups(m)[i + WASTED]
        if used + wasted > 0:
            groups(m)[i + ORDER] = _grown(order, used, wasted, m.taught != 0)
        elif order == 0 and groups(m)[i + FIXUPS] >= PROBE_FIXUPS:
            groups(m)[i + ORDER] = 1
        groups(m)[i + FIXUPS] = 0
        groups(m)[i + USED] = used >> 1
        groups(m)[i + WASTED] = wasted >> 1
