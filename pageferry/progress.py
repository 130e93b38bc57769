"""Progress of a migration: a live view on a terminal, plain lines elsewhere.

A migration in rounds has no meaningful percentage of the whole: each round sends again what
the guest wrote during the one before. So progress is shown within the round, beside the
rate at which pages are sent and the rate at which they become dirty, which together decide
whether there is an end.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pageferry.document import round_of
from pageferry.tables import count, rounds
from pageferry.v1 import source_pb2 as pb
from pageferry.whereabouts import of_migration
from paging_core.units import FRAME_BYTES, NS_PER_S, format_bytes, format_ns

PHASES = {
    pb.MIGRATION_STATE_SETUP: "setting up",
    pb.MIGRATION_STATE_PRE_COPY: "pre-copy: the guest runs while its pages cross",
    pb.MIGRATION_STATE_STOP_AND_COPY: "stop-and-copy: the guest is paused",
    pb.MIGRATION_STATE_VERIFYING: "proving every page on the destination",
    pb.MIGRATION_STATE_COMMITTING: "handing the guest over",
    pb.MIGRATION_STATE_IN_DOUBT: "in doubt: the commit's answer has not come",
    pb.MIGRATION_STATE_COMPLETED: "completed: the destination has the guest",
    pb.MIGRATION_STATE_FAILED: "failed",
    pb.MIGRATION_STATE_CANCELLED: "cancelled",
}
"""What each state means to the user who waits."""
_WITHOUT_THE_GUEST = (pb.MIGRATION_STATE_FAILED, pb.MIGRATION_STATE_CANCELLED)
"""Phases behind which stands where the guest is."""

_REFRESHES_PER_S = 8
_ROUNDS_SHOWN = 8


class Progress(Protocol):
    """Shows the states of one migration as they arrive."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def doing(self, what: str) -> None:
        """Show what goes on before there is a migration."""

    def update(self, status: pb.MigrationStatus) -> None:
        """Show a newer status."""


class SilentProgress:
    """Shows nothing (``--quiet``, ``--no-progress``)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return

    def doing(self, what: str) -> None:
        """Show nothing."""

    def update(self, status: pb.MigrationStatus) -> None:
        """Show nothing."""


class PlainProgress(SilentProgress):
    """One line for each finished round and each new phase: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rounds = 0
        self._state = pb.MIGRATION_STATE_UNSPECIFIED

    def doing(self, what: str) -> None:
        """Print it."""
        self._say(what)

    def update(self, status: pb.MigrationStatus) -> None:
        """Print what is new since the last status."""
        for stats in status.rounds[self._rounds :]:
            self._say(round_line(stats))
        self._rounds = len(status.rounds)
        if status.state != self._state:
            self._state = status.state
            self._say(phase(status) or "unknown phase")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """The finished rounds as a growing table above the round under way."""

    def __init__(self, console: Console) -> None:
        self._status = pb.MigrationStatus()
        self._doing = ""
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def doing(self, what: str) -> None:
        """Keep it for the next refresh."""
        self._doing = what

    def update(self, status: pb.MigrationStatus) -> None:
        """Keep the newest status for the next refresh."""
        self._status = status

    def _render(self) -> Group:
        status = self._status
        self._spinner.update(text=phase(status) or self._doing)
        done = [round_of(stats) for stats in status.rounds[-_ROUNDS_SHOWN:]]
        table: list[RenderableType] = [rounds(done), Text()] if done else []
        return Group(*table, self._spinner, *_under_way(status))


def phase(status: pb.MigrationStatus) -> str:
    """What goes on, in a line; empty before there is a migration."""
    said = PHASES.get(status.state, "")
    return f"{said}: {of_migration(status)}" if status.state in _WITHOUT_THE_GUEST else said


def progress_for(console: Console, *, silent: bool) -> Progress:
    """The view that suits where the output goes."""
    if silent:
        return SilentProgress()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(console)


def round_line(stats: pb.RoundStats) -> str:
    """A finished round in one line."""
    name = _name(stats)
    skipped = f", {count(stats.skipped_frames)} skipped" if stats.skipped_frames else ""
    line = (
        f"{name}: sent {count(stats.sent_frames)} of {count(stats.to_send_frames)} pages{skipped}"
        f" in {format_ns(stats.duration_ns)}, {format_bytes(stats.wire_bytes)} on the wire"
    )
    if stats.stop_and_copy:
        return line
    return f"{line}; {count(stats.dirty_frames)} dirty after it{_rates(stats, stats.dirty_frames)}"


def _name(stats: pb.RoundStats) -> str:
    if stats.repair:
        return "repair"
    return "stop-and-copy" if stats.stop_and_copy else f"round {stats.round}"


def _rates(stats: pb.RoundStats, dirty_frames: int) -> str:
    if not stats.duration_ns:
        return ""
    seconds = stats.duration_ns / NS_PER_S
    sent = format_bytes(stats.sent_frames * FRAME_BYTES / seconds)
    dirtied = format_bytes(dirty_frames * FRAME_BYTES / seconds)
    return f" (moves {sent}/s of memory, dirties {dirtied}/s)"


def _under_way(status: pb.MigrationStatus) -> list[RenderableType]:
    current = status.current
    if not current.to_send_frames:
        return []
    done = min(current.sent_frames + current.skipped_frames, current.to_send_frames)
    name = _name(current)
    line = Table.grid(padding=(0, 1))
    line.add_row(
        Text(name, style="bold"),
        ProgressBar(total=current.to_send_frames, completed=done, width=30),
        f"{count(done)} of {count(current.to_send_frames)} pages",
        _remaining(status, done),
    )
    return [line, Text(_outlook(status), style="dim", no_wrap=True, overflow="ellipsis")]


def _remaining(status: pb.MigrationStatus, done: int) -> str:
    before_ns = sum(stats.duration_ns + stats.clean_ns for stats in status.rounds)
    elapsed_ns = status.totals.total_ns - before_ns
    if not done or elapsed_ns <= 0:
        return ""
    left = status.current.to_send_frames - done
    return f"round ends in {format_ns(elapsed_ns * left / done)}"


def _outlook(status: pb.MigrationStatus) -> str:
    parts = []
    if status.rounds:
        last = status.rounds[-1]
        parts.append(f"{count(last.dirty_frames)} pages became dirty in round {last.round}")
    if status.estimated_downtime_ns:
        parts.append(f"a pause now would last about {format_ns(status.estimated_downtime_ns)}")
    return "; ".join(parts)
