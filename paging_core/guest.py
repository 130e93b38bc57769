"""The guest as a migration sees it: the one interface that every kind of guest has.

`ModelGuest` (paging_core.model_guest) implements it with a paging model; a guest over
real process memory or a real VM would implement the same nine verbs. Consumers depend on
this protocol only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from paging_core.density import NOTHING, Written
from paging_core.memory import GuestMemory

DirtyWords = npt.NDArray[np.uint64]
"""A dirty bitmap: bit ``gfn % 64`` of word ``gfn // 64``; shape (ceil(n_frames / 64),)."""


@dataclass(frozen=True)
class ShadowPool:
    """How full the pool of shadow pages is.

    Attributes:
        used_pages: that hold a shadow.
        pages: in all; beyond that the oldest shadows are evicted.
    """

    used_pages: int
    pages: int


@dataclass(frozen=True)
class Cleaned:
    """What one clean (get-and-clear) of the log-dirty bitmap returned.

    Attributes:
        dirty: the bitmap as it stood before it was cleared.
        dirty_count: bits that flipped clean to dirty since the last clean.
        fault_count: shadow faults fixed since the last clean, as Xen counts them: emulated writes
            are none (multi.c, sh_page_fault), and under HAP it is 0.
        falsely_dirty_count: frames in `dirty` that nobody had written since the last clean,
            known from the model's record of true writes, not from the tracker.
        cost_ns: guest-visible stall of this clean.
        shadow_pool: as the clean found it, before it dropped anything; None without shadows.
        written: what was really written since the last clean, from the same record.
    """

    dirty: DirtyWords
    dirty_count: int
    fault_count: int
    falsely_dirty_count: int
    cost_ns: int
    shadow_pool: ShadowPool | None = None
    written: Written = NOTHING


@dataclass(frozen=True)
class GuestCounters:
    """Totals since tracking was started.

    Attributes:
        faults: count by kind, keys of `paging_core.events.FAULT_KINDS`.
        events: every event counted by the cost model, by name.
        tracking_ns: guest time spent because of tracking, by cause
            (`paging_core.events.CAUSES`).
        base_ns: guest time that is charged to no cause: what the tracked guest's own accounts say
            that it would have taken untracked.
        accesses: guest accesses executed.
        untracked_ns: guest time that the untracked twin took for the same operations; None
            without one.
        events_by: the events by what they are charged to, zeros left out: a cause, `base`, and
            `untracked` for those of the twin.
    """

    faults: Mapping[str, int]
    events: Mapping[str, int]
    tracking_ns: Mapping[str, int]
    base_ns: int
    accesses: int
    untracked_ns: int | None = None
    events_by: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def slowdown(self) -> float | None:
        """Tracked guest time over the twin's; 1.0 when nothing ran, None without a twin."""
        if self.untracked_ns is None:
            return None
        if self.untracked_ns == 0:
            return 1.0
        return (self.base_ns + sum(self.tracking_ns.values())) / self.untracked_ns


class Guest(Protocol):
    """A guest that can be migrated. Not thread-safe: one caller at a time."""

    memory: GuestMemory

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""

    @property
    def time_ns(self) -> int:
        """The guest's own virtual time."""

    def run(self, until_ns: int) -> None:
        """Let the guest run until its virtual time reaches `until_ns` (no-op if past it).

        Raises:
            GuestCrashed: its kernel gave up.
        """

    def run_accesses(self, count: int) -> None:
        """Let the guest execute exactly `count` more workload operations."""

    def stall(self, duration_ns: int) -> None:
        """Let virtual time pass with the guest stopped (it executes nothing)."""

    def start_tracking(self) -> None:
        """Enable log-dirty: every frame is clean and write-protected from here on."""

    def clean(self) -> Cleaned:
        """Get and clear the dirty bitmap, revoking write access again."""

    def peek(self) -> DirtyWords:
        """A copy of the dirty bitmap; changes nothing."""

    def stop_tracking(self) -> None:
        """Disable log-dirty; the guest goes on untracked."""

    def counters(self) -> GuestCounters:
        """Faults, events and time since tracking was started."""

    def state(self) -> bytes:
        """All of the guest that is not its memory: registers, address spaces, workload."""


@runtime_checkable
class SendObserver(Protocol):
    """A guest whose tracker wants to know what became of the frames that it reported dirty."""

    @property
    def observes_sends(self) -> bool:
        """Whether it makes use of `note_sent`."""

    def note_sent(self, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
        """Note frames that were sent.

        Args:
            gfns: of one message.
            changed: whether each held other content than what was last sent of it.
        """


@runtime_checkable
class LogClearer(Protocol):
    """A guest whose log is cleared in parts, after a clean that cleared nothing (KVM)."""

    @property
    def clear_chunk_frames(self) -> int:
        """Frames to clear at a time; 0 if a clean clears everything at once."""

    def clear_log(self, gfns: npt.NDArray[np.int64]) -> None:
        """Take these frames out of the dirty bitmap, and revoke write access to those that were in.

        Only who is about to send every one of them may call this. Frames that became dirty
        since the clean that reported them, and are not to be sent yet, must not be among them.
        """


@runtime_checkable
class Twinned(Protocol):
    """A guest that can have an untracked twin run the same operations beside it."""

    def keep_twin(self) -> None:
        """Have one from here until tracking stops; called before tracking starts."""
