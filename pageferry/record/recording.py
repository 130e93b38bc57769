"""A recording: window after window, from a process into a trace of written pages."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from pageferry.record.attach import Attached
from pageferry.record.content import Contents
from pageferry.record.errors import CannotRecord
from pageferry.record.guest_ram import GuestRam
from pageferry.record.tracker import Gone, Pages, Tracker
from paging_core.traces.written.schema import (
    CHANGED,
    PROCESS,
    SAME,
    VM,
    Mapping,
    Recording,
)
from paging_core.traces.written.writer import WrittenPagesWriter
from paging_core.units import FRAME_BYTES, FRAME_SHIFT, NS_PER_S

_ENDS_WITHIN_S = 0.1
"""After its memory has gone: from there to the end of a process it is not far."""
_FOLLOWS_WITHIN_S = 10.0
_MERGE_AFTER = 64
"""Windows whose pages are merged into the set of all at once."""


class Plan(NamedTuple):
    """What to record.

    Attributes:
        windows_ns: lengths of the windows, one after the other and then again.
        for_ns: how long; None: until the process ends or somebody stops it.
        content: whether to read what is written.
        guest_ram: the RAM to record, by guest frame; None: the process, by virtual address.
        command: what is recorded, for people.
    """

    windows_ns: tuple[int, ...]
    for_ns: int | None
    content: bool
    guest_ram: GuestRam | None
    command: str


@dataclass
class Summary:
    """What came of a recording.

    Attributes:
        why_ended: in words.
        stopped_ns: for how long the process stood still while it was attached to.
        duration_ns: from the first window's start to the last one's end.
        programs: how many were recorded: the first one and those that it executed in its place.
        windows: how many.
        late: of them, how many were half as long again as they should have been.
        populated_pages: pages that were there when it began.
        rows: pages written, summed over windows.
        distinct: pages written at least once.
        huge: of `rows`, pages in huge pages that appeared.
        changed, same: of `rows`, those whose content was found changed, or as it was.
        scan_ns: longest time that a look at all pages took, and the sum.
        left_out: names of mappings by the reason that they were not recorded.
    """

    why_ended: str = ""
    stopped_ns: int = 0
    duration_ns: int = 0
    programs: int = 1
    windows: int = 0
    late: int = 0
    populated_pages: int = 0
    rows: int = 0
    distinct: int = 0
    huge: int = 0
    changed: int = 0
    same: int = 0
    scan_ns: tuple[int, int] = (0, 0)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def written_bytes_per_s(self) -> float:
        """Pages times windows: what a migration with these rounds would have to send."""
        return self.rows * FRAME_BYTES * NS_PER_S / max(self.duration_ns, 1)


class Stop:
    """Says when somebody wishes the recording to end.

    Attributes:
        why: in words; empty until then.
    """

    def __init__(self) -> None:
        self.why = ""
        self.waker, self._end = os.pipe()

    def now(self, why: str) -> None:
        """End the recording after this window; may be called by a signal handler."""
        if not self.why:
            self.why = why
            os.write(self._end, b"s")


def record(
    pid: int,
    attached: Attached,
    plan: Plan,
    out: Path,
    stop: Stop,
    progress: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Record a process until its time is over, it ends, or somebody stops it.

    Args:
        pid: the process.
        attached: its userfaultfd, which is closed at the end; a command begins once it is tracked.
        plan: what to record.
        out: the trace to write.
        stop: asked between windows, and while one lasts.
        progress: told after each window.

    Raises:
        CannotRecord: it was over before the first window.
        BadTrace: the trace cannot be written.
    """
    with WrittenPagesWriter(out) as writer, _Loop(pid, attached, plan, writer, stop) as loop:
        loop.run(progress)
        return loop.summary


class _Watched(NamedTuple):
    """A program of the process while it is recorded."""

    tracker: Tracker
    contents: Contents | None

    def close(self) -> None:
        self.tracker.close()
        if self.contents:
            self.contents.close()


def _watch(pid: int, attached: Attached, plan: Plan) -> _Watched:
    """Begin to record a program; nothing is protected yet."""
    ram = plan.guest_ram
    tracker = Tracker(pid, attached, range(ram.start, ram.end) if ram else None)
    try:
        return _Watched(tracker, Contents(pid) if plan.content else None)
    except OSError as error:
        tracker.close()
        raise CannotRecord(
            f"the memory of process {pid} cannot be read ({error.strerror}); run as root, or "
            "leave out --content"
        ) from error


class _Loop:
    def __init__(
        self, pid: int, attached: Attached, plan: Plan, writer: WrittenPagesWriter, stop: Stop
    ) -> None:
        self.summary = Summary()
        self._pid, self._attached, self._plan = pid, attached, plan
        self._writer, self._stop = writer, stop
        self._process = os.pidfd_open(pid)
        self._watched: _Watched | None = None
        self._seen: dict[tuple[int, int], str] = {}
        self._distinct: list[Pages] = []

    def run(self, progress: Callable[[Summary], None]) -> None:
        """Record, and describe what was recorded."""
        summary = self.summary
        summary.stopped_ns = self._attached.stopped_ns
        begin_ns = self._began_ns = self._begin()
        for length_ns in cycle(self._plan.windows_ns):
            wait_ns = self._wait_ns(begin_ns, length_ns)
            if wait_ns is None:
                summary.why_ended = "its time was over"
                break
            self._wait(begin_ns + wait_ns)
            try:
                begin_ns = self._window(begin_ns, wait_ns)
            except Gone:
                next_ns = self._next_program()
                if next_ns is None:
                    break
                begin_ns = next_ns
            progress(summary)
            if self._stop.why:
                summary.why_ended = self._stop.why
                break
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._unwatch()
        os.close(self._process)

    def _begin(self) -> int:
        """Protect everything there is, and let a command begin; when the first window begins.

        Raises:
            CannotRecord: the process has gone.
        """
        self._watched = _watch(self._pid, self._attached, self._plan)
        try:
            begin_ns = self._begun(*self._watched)
        except Gone as error:
            raise CannotRecord(f"process {self._pid} has ended") from error
        self._attached.let_go()
        return begin_ns

    def _begun(self, tracker: Tracker, contents: Contents | None) -> int:
        written = tracker.take()
        self.summary.populated_pages = len(written.pages)
        if contents is None:
            return time.monotonic_ns()
        contents.compare(written, tracker.written_since)
        # Reading all of it takes long, so what was written meanwhile is read again.
        written = tracker.take()
        now_ns = time.monotonic_ns()
        contents.compare(written, tracker.written_since)
        return now_ns

    def _next_program(self) -> int | None:
        """When the first window of a program begins that this one executed; None: it is over.

        What was recorded is kept, whatever becomes of the next program.
        """
        try:
            return self._begin() if self._executed() else None
        except CannotRecord as error:
            self.summary.why_ended = f"it executes another program, but {error}"
            return None

    def _executed(self) -> bool:
        """Whether what has gone is a program in whose place stands another that is followed.

        What the first one wrote since its last window went with its memory.
        """
        summary = self.summary
        if self._ended():
            summary.why_ended = "the process ended"
            return False
        self._unwatch()
        if not self._attached.wait_for_exec(_FOLLOWS_WITHIN_S):
            summary.why_ended = (
                "the process ended" if self._ended() else "it executes another program now"
            )
            return False
        summary.programs += 1
        return True

    def _ended(self) -> bool:
        return bool(select.select([self._process], [], [], _ENDS_WITHIN_S)[0])

    def _unwatch(self) -> None:
        if self._watched is None:
            return
        tracker = self._watched.tracker
        self._seen |= tracker.seen
        for why, names in tracker.left_out.items():
            known = self.summary.left_out.setdefault(why, [])
            known += sorted(names - set(known))
        self._watched.close()
        self._watched = None

    def _wait_ns(self, begin_ns: int, length_ns: int) -> int | None:
        """How long the next window shall last; None: there is no time left for one."""
        if self._plan.for_ns is None:
            return length_ns
        left_ns = self._began_ns + self._plan.for_ns - begin_ns
        return min(length_ns, left_ns) if left_ns > 0 else None

    def _wait(self, until_ns: int) -> None:
        """Until then, or until the process ends or somebody stops the recording."""
        left_ns = until_ns - time.monotonic_ns()
        if left_ns > 0 and not self._stop.why:
            events = [self._process, self._stop.waker]
            if self._attached.still_follows():
                events.append(self._attached.answers.fileno())
            select.select(events, [], [], left_ns / NS_PER_S)

    def _window(self, begin_ns: int, length_ns: int) -> int:
        """Ask what was written, and write it down; when the next window begins."""
        if self._watched is None:
            raise Gone
        tracker, contents = self._watched
        began_ns = self._began_ns
        end_ns = time.monotonic_ns()
        written = tracker.take()
        taken_ns = time.monotonic_ns() - end_ns
        changed = None
        if contents:
            changed = contents.compare(written, tracker.written_since)
        ram = self._plan.guest_ram
        pages = ram.gfns(written.pages) if ram else written.pages
        self._writer.window(begin_ns - began_ns, end_ns - began_ns, pages, changed)
        summary = self.summary
        summary.windows += 1
        summary.late += end_ns - begin_ns > length_ns * 3 // 2
        summary.duration_ns = end_ns - began_ns
        summary.rows += len(pages)
        summary.huge += written.huge
        most_ns, sum_ns = summary.scan_ns
        summary.scan_ns = (max(most_ns, taken_ns), sum_ns + taken_ns)
        if changed is not None:
            summary.changed += int(np.count_nonzero(changed == CHANGED))
            summary.same += int(np.count_nonzero(changed == SAME))
        self._add(pages)
        return end_ns

    def _add(self, pages: Pages) -> None:
        self._distinct.append(pages)
        if len(self._distinct) >= _MERGE_AFTER:
            self._merge()

    def _merge(self) -> None:
        self._distinct = [np.unique(np.concatenate([np.zeros(0, np.uint64), *self._distinct]))]
        self.summary.distinct = len(self._distinct[0])

    def _finish(self) -> None:
        self._merge()
        summary = self.summary
        self._unwatch()
        if not summary.windows:
            raise CannotRecord(
                f"{summary.why_ended} before the first window was over; record with shorter "
                "--windows"
            )
        self._writer.finish(_recording(self._plan, self._seen))


def _recording(plan: Plan, seen: dict[tuple[int, int], str]) -> Recording:
    how = "asynchronous userfaultfd write-protection, PAGEMAP_SCAN"
    if plan.guest_ram:
        ram = plan.guest_ram
        how += f"; RAM is {ram.assumed}"
        return Recording(VM, FRAME_BYTES, plan.command, how, ram.size_bytes, ram.mappings())
    mappings = _apart(seen)
    size_bytes = sum(one.pages for one in mappings) * FRAME_BYTES
    return Recording(PROCESS, FRAME_BYTES, plan.command, how, size_bytes, mappings)


def _apart(seen: dict[tuple[int, int], str]) -> tuple[Mapping, ...]:
    """Mappings that do not overlap: of two that did, at different times, the lower one is whole."""
    found: list[Mapping] = []
    end = 0
    for (start, stop), name in sorted(seen.items()):
        first, last = max(start >> FRAME_SHIFT, end), stop >> FRAME_SHIFT
        if first < last:
            if found and found[-1].name == name and end == first:
                before = found.pop()
                found.append(Mapping(before.first_page, last - before.first_page, name))
            else:
                found.append(Mapping(first, last - first, name))
            end = last
    return tuple(found)
