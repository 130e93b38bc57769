"""The guest as a migration sees it: the one interface that every kind of guest has.

`Guest` is what each of them can do. What only some can is a part of its own: a model runs when it
is told to, a process or a virtual machine by itself; a model knows what was really written, no
tracker does. `Guest.parts` declares in one place which parts there are, and nobody asks
otherwise. Facts that only some know may be None: they are shown as absent and never as 0.

`ModelGuest` (paging_core.model_guest) is one kind; `tests/guests` holds every kind to this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paging_core.config import GuestConfig
from paging_core.density import Written
from paging_core.flow import FlowSource
from paging_core.guest_accounts import Accounts
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
            known from a record of true writes, not from the tracker; None where there is none.
        cost_ns: guest-visible stall of this clean.
        shadow_pool: as the clean found it, before it dropped anything; None without shadows.
        written: what was really written since the last clean, from the same record; None without.
    """

    dirty: DirtyWords
    dirty_count: int
    fault_count: int
    falsely_dirty_count: int | None
    cost_ns: int
    shadow_pool: ShadowPool | None = None
    written: Written | None = None


@dataclass(frozen=True)
class GuestCounters:
    """Totals since tracking was started.

    Attributes:
        faults: count by kind, keys of the guest's `Accounts.faults`, and ``total``: all of them
            but ``fixup``, which counts those of the others that opened a clean frame.
        events: every event counted by the cost model, by name; empty where nothing is modelled.
        tracking_ns: guest time spent because of tracking, by cause, keys of `Accounts.causes`.
        base_ns: guest time that is charged to no cause: what the tracked guest's own accounts say
            that it would have taken untracked; None where nothing can say it.
        accesses: guest accesses executed.
        untracked_ns: guest time that the untracked twin took for the same operations; None
            without one.
        events_by: the events by what they are charged to, zeros left out: a cause, `base`, and
            `untracked` for those of the twin.
    """

    faults: Mapping[str, int]
    events: Mapping[str, int]
    tracking_ns: Mapping[str, int]
    base_ns: int | None
    accesses: int
    untracked_ns: int | None = None
    events_by: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def slowdown(self) -> float | None:
        """Tracked guest time over the twin's; 1.0 when nothing ran, None without a twin."""
        if self.untracked_ns is None or self.base_ns is None:
            return None
        if self.untracked_ns == 0:
            return 1.0
        return (self.base_ns + sum(self.tracking_ns.values())) / self.untracked_ns


class Guest(Protocol):
    """A guest that can be migrated. Not thread-safe: one caller at a time.

    One that runs by itself (`Parts.paced`) may be asked anything here while it runs; one that is
    driven (`Parts.driven`) stands still whenever it is asked.
    """

    memory: GuestMemory

    @property
    def accounts(self) -> Accounts:
        """The kinds of fault and causes of time that it counts."""

    @property
    def parts(self) -> Parts:
        """What it can do beside this; the same at every time of its life."""

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""

    @property
    def time_ns(self) -> int:
        """The guest's own time: it does not pass while the guest stands still."""

    @property
    def position(self) -> int:
        """Operations of its load executed since it booted."""

    @property
    def trace_digest(self) -> int:
        """XXH3-64 of the trace that it replays; 0 without one."""

    def check(self) -> None:
        """Whether it is alive.

        Raises:
            GuestCrashed: something stopped it for good: what, in one line.
        """

    def start_tracking(self) -> None:
        """Enable log-dirty: every frame is clean and write-protected from here on.

        Raises:
            IllegalTransition: it is enabled already.
        """

    def clean(self) -> Cleaned:
        """Get and clear the dirty bitmap, revoking write access again.

        Raises:
            IllegalTransition: logging is off.
        """

    def peek(self) -> DirtyWords:
        """A copy of the dirty bitmap; changes nothing.

        Raises:
            IllegalTransition: logging is off.
        """

    def stop_tracking(self) -> None:
        """Disable log-dirty; the guest goes on untracked. Nothing happens where it is off."""

    def counters(self) -> GuestCounters:
        """Faults, events and time since tracking was started."""

    def state(self) -> bytes:
        """All of the guest that is not its memory: registers, address spaces, load.

        It names its kind; the guest stands still.
        """

    def close(self) -> None:
        """Give its memory back, and whatever it holds open; nothing runs it any more.

        Closing again does nothing.
        """


class Stepped(Protocol):
    """A guest that executes an exact number of operations."""

    def run_accesses(self, count: int) -> None:
        """Let the guest execute exactly `count` more operations of its load.

        Raises:
            GuestCrashed: it cannot.
        """


class Driven(Protocol):
    """A guest with a virtual time, which runs only when and as long as its host says."""

    @property
    def time_ns(self) -> int:
        """As of `Guest`."""

    def run(self, until_ns: int) -> None:
        """Let the guest run until its virtual time reaches `until_ns` (no-op if past it).

        Raises:
            GuestCrashed: its kernel gave up.
        """

    def run_accesses(self, count: int) -> None:
        """As of `Stepped`."""

    def stall(self, duration_ns: int) -> None:
        """Let virtual time pass with the guest stopped (it executes nothing)."""


class Paced(Protocol):
    """A guest that runs by itself, in real time, between `resume` and `pause`."""

    def resume(self) -> None:
        """Let it run from here on; returns at once. Nothing happens where it runs."""

    def pause(self) -> None:
        """Stop it; it stands still when this returns. Nothing happens where it does.

        Raises:
            GuestCrashed: it stands still for good.
        """


class SendObserver(Protocol):
    """A guest whose tracker learns from what became of the frames that it reported dirty."""

    def note_sent(self, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
        """Note frames that were sent.

        Args:
            gfns: of one message.
            changed: whether each held other content than what was last sent of it.
        """


class LogClearer(Protocol):
    """A guest whose log is cleared in parts, after a clean that cleared nothing (KVM)."""

    @property
    def clear_chunk_frames(self) -> int:
        """Frames to clear at a time."""

    def clear_log(self, gfns: npt.NDArray[np.int64]) -> None:
        """Take these frames out of the dirty bitmap, and revoke write access to those that were in.

        Only who is about to send every one of them may call this. Frames that became dirty
        since the clean that reported them, and are not to be sent yet, must not be among them.
        """


class Twinned(Protocol):
    """A guest that can have an untracked twin run the same operations beside it."""

    def keep_twin(self) -> None:
        """Have one from here until tracking stops; called before tracking starts."""


class Comparable(Protocol):
    """A guest whose state beside its memory can be compared with that of another."""

    def architectural_state(self) -> bytes:
        """What the guest itself could tell: equal for a guest that moved and one that did not."""


@dataclass(frozen=True)
class Parts:
    """What a guest can do beside what each can: the guest itself at each part that it has.

    Attributes:
        driven: it runs when it is told to, on a virtual time. Every guest is this or `paced`.
        paced: it runs by itself, on the real clock.
        stepped: it executes exact numbers of operations; a driven guest does.
        learner: its tracker makes use of what was sent.
        clearer: its cleans clear nothing.
        flow: it tells each fault as it happens.
        twin: it can have an untracked twin.
        comparable: its state can be digested and compared.
    """

    driven: Driven | None = None
    paced: Paced | None = None
    stepped: Stepped | None = None
    learner: SendObserver | None = None
    clearer: LogClearer | None = None
    flow: FlowSource | None = None
    twin: Twinned | None = None
    comparable: Comparable | None = None

    @property
    def names(self) -> frozenset[str]:
        """Of the parts that there are."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) is not None)


Resume = Callable[[GuestMemory, bytes], Guest]
"""Makes a guest of its memory and its state, which came from another host: stands still,
untracked. The memory is the guest's from then on.

Raises:
    InvalidInput: no state of such a guest, or memory that none could have.
"""


class GuestMaker(Protocol):
    """Makes guests of one kind."""

    def boot(
        self,
        config: GuestConfig,
        look_up: Callable[[], None] = lambda: None,
        memory: GuestMemory | None = None,
    ) -> Guest:
        """A fresh guest: stands still, untracked, at the beginning of its load.

        Args:
            config: what it is made of.
            look_up: called now and then; what it raises ends the boot.
            memory: its frames, all zero, which are the guest's from then on; made when None.

        Raises:
            InvalidInput: no such guest can be.
            LimitExceeded: this machine has no room for it, or does not let such guests run.
        """

    def prepare(self, config: GuestConfig, trace_digest: int, trace_dir: Path | None) -> Resume:
        """Get everything ready that an arriving guest needs here beside memory and state.

        What can be refused is refused here, while the guest still runs where it is.

        Args:
            config: what it is made of, on the source.
            trace_digest: XXH3-64 of the trace that it replays; 0 without one.
            trace_dir: where traces lie by name; None looks at the source's own path.

        Raises:
            InvalidInput: this host cannot run it.
            LimitExceeded: as `boot`.
        """
