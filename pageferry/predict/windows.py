"""A prediction from a trace of written pages: sets of pages, and no guest.

What a round leaves dirty is the union of the windows that fall into it. A window that is in it
only in part, a fraction f of its length, was written who knows in which order: each of its pages
counts with probability f, and the number of dirty pages is the expected one. A page is unchanged
when each write in the round left it as it was: measured where the trace says so, one write in eight
otherwise (`SILENT_FRACTION`). The recording begins again when it ends.

What this does not know: what tracking costs the guest, false dirties of groups, and how well pages
pack; each frame crosses whole, unless it is unchanged and `suppress` is on, or the caller says to
what share of its size frames pack.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pageferry.predict.prediction import Prediction
from pageferry.predict.simulation import Setting, simulate
from pageferry.request import MigrationOptions
from paging_core.config import MIN_GUEST_FRAMES
from paging_core.costs import CostTable
from paging_core.errors import BadOption
from paging_core.traces.replay import SILENT_FRACTION
from paging_core.traces.written.profile import profile_of
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import CHANGED, NOT_MEASURED, SAME
from paging_core.units import FRAME_BYTES, NS_PER_S, format_bytes
from source_host.precopy.plan import Plan

FRAME_ON_THE_LINK_BYTES = FRAME_BYTES + 4
"""A frame by itself: its content, its kind, and its share of the runs (wire/batch.py)."""
STARTS = 4
"""Moments of the recording, evenly apart, at which a migration is predicted to begin."""


class Recorded:
    """The windows of a trace in memory: five bytes for each written page of each window.

    Attributes:
        n_frames: of the machine.
        duration_ns: of a lap.
        dirty_frames_per_s: distinct frames written in a lap's windows, over its time.
        measured: whether the trace says of any write whether it changed something.
    """

    def __init__(self, trace: WrittenPagesFile, memory_bytes: int) -> None:
        """Read all of a trace.

        Args:
            trace: open.
            memory_bytes: of the machine, where the trace does not say.

        Raises:
            BadTrace: a row is damaged or impossible.
            BadOption: more pages than the memory has.
        """
        recording = trace.recording
        found = profile_of(trace)
        self._parts = recording.frames_per_page
        least = len(found.pages) * recording.page_bytes
        if not recording.memory_bytes and least > memory_bytes:
            raise BadOption(
                f"the trace has pages of {format_bytes(least)}, and the machine "
                f"{format_bytes(memory_bytes)}; give --memory what it has"
            )
        # A process maps and unmaps: all that it wrote can be more than it had at once.
        recorded = max(recording.memory_bytes, least, MIN_GUEST_FRAMES * FRAME_BYTES)
        self.n_frames = (recorded if recording.memory_bytes else memory_bytes) // FRAME_BYTES
        self.duration_ns = trace.description.duration_ns
        self.dirty_frames_per_s = found.written_rows * self._parts * NS_PER_S / self.duration_ns
        self.measured = found.measured > 0
        self._start_ns, self._end_ns = found.windows.start_ns, found.windows.end_ns
        self._n_pages = len(found.pages)
        self._pages, self._same = [], []
        for window in trace.windows():
            index = np.searchsorted(found.pages, window.written.astype(np.int64))
            self._pages.append(index.astype(np.int32))
            self._same.append(_same_share(window.changed))

    @property
    def memory_bytes(self) -> int:
        """Of the machine."""
        return self.n_frames * FRAME_BYTES

    def written(self, from_ns: float, to_ns: float) -> tuple[float, float]:
        """Frames that are expected to be dirty after a time, and those of them unchanged.

        Args:
            from_ns, to_ns: since the recording began; beyond its end it begins again.
        """
        clean = np.ones(self._n_pages)
        same = np.ones(self._n_pages)
        if to_ns - from_ns >= self.duration_ns:  # everything, some of it more than once
            to_ns = from_ns + self.duration_ns
        for lap in range(int(from_ns // self.duration_ns), int(to_ns // self.duration_ns) + 1):
            self._add(clean, same, from_ns - lap * self.duration_ns, to_ns - lap * self.duration_ns)
        dirty = float((1 - clean).sum()) * self._parts
        return dirty, float((same - clean).sum()) * self._parts

    def _add(
        self,
        clean: npt.NDArray[np.float64],
        same: npt.NDArray[np.float64],
        begin: float,
        end: float,
    ) -> None:
        """Make pages less likely to be clean, and to be the same, by the windows of one lap."""
        first = int(np.searchsorted(self._end_ns, begin, side="right"))
        last = int(np.searchsorted(self._start_ns, end, side="left"))
        for i in range(first, last):
            start, stop = int(self._start_ns[i]), int(self._end_ns[i])
            part = (min(end, stop) - max(begin, start)) / (stop - start)
            pages = self._pages[i]
            clean[pages] *= 1 - part
            same[pages] *= 1 - part + part * self._same[i]


def _same_share(changed: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """How likely it is of each write that it changed nothing."""
    share = np.zeros(len(changed), np.float32)
    share[changed == SAME] = 1
    share[changed == NOT_MEASURED] = SILENT_FRACTION
    share[changed == CHANGED] = 0
    return share


def from_windows(
    recorded: Recorded,
    plan: Plan,
    costs: CostTable,
    *,
    packed: float = 1.0,
    slowed: float = 1.0,
) -> list[Prediction]:
    """What happens to a migration that begins at each of `STARTS` moments of the recording.

    Args:
        recorded: what the machine writes.
        plan: how it is moved.
        costs: what the sender's work takes.
        packed: share of its size that a frame has on the link.
        slowed: share of its speed at which the machine runs meanwhile.
    """
    assert plan.link is not None  # noqa: S101 - the virtual clock has one
    setting = Setting(
        memory_frames=recorded.n_frames,
        frame_bytes=FRAME_ON_THE_LINK_BYTES * packed,
        link=plan.link,
        policy=plan.make_policy(),
        downtime_limit_ns=plan.downtime_limit_ns,
        frame_digest_ns=plan.digest_ns(costs),
    )
    return [
        _from(recorded, setting, plan, recorded.duration_ns * i // STARTS, slowed)
        for i in range(STARTS)
    ]


class OfWindows:
    """Implements `pageferry.predict.answer.Asked` for a trace of written pages."""

    packs = True
    slows = True

    def __init__(self, recorded: Recorded) -> None:
        """For what a machine wrote."""
        self.recorded = recorded

    def predict(
        self, options: MigrationOptions, *, packed: float = 1.0, slowed: float = 1.0
    ) -> list[Prediction]:
        """At each of `STARTS` moments; see `Asked`."""
        costs = options.guest_config().costs
        return from_windows(self.recorded, options.plan(), costs, packed=packed, slowed=slowed)


def _from(
    recorded: Recorded, setting: Setting, plan: Plan, start_ns: int, slowed: float
) -> Prediction:
    begin = start_ns + plan.warmup_ns
    known: dict[tuple[int, int], tuple[float, float]] = {}

    def written(from_ns: int, to_ns: int) -> tuple[float, float]:
        span = from_ns, to_ns
        if span not in known:
            known[span] = recorded.written(begin + from_ns * slowed, begin + to_ns * slowed)
        return known[span]

    def dirtied(from_ns: int, to_ns: int) -> int:
        return round(written(from_ns, to_ns)[0])

    def unchanged(from_ns: int, to_ns: int) -> float:
        return written(from_ns, to_ns)[1] if plan.suppress else 0.0

    return simulate(f"from {start_ns / NS_PER_S:.3g} s", setting, dirtied, unchanged)
