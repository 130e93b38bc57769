"""Pictures of a migration that are taken while it changes."""

from __future__ import annotations

from typing import cast

from paging_core.errors import HostUnreachable
from source_host.precopy.clocks import Clock
from source_host.precopy.progress import Progress
from source_host.precopy.report import Report
from source_host.precopy.rounds import Rounds, RoundSender
from source_host.states import MigrationState


class Log:
    """Nothing was sent."""

    unique_frames = 0
    owed_frames = 0
    bytes_per_s = 0

    def ns_for(self, _n_bytes: int) -> int:
        return 0


class Sender:
    ledger = Log()
    meter = Log()
    rounds = Rounds((), None)


class BetweenTwoReads:
    """A clock: who reads it while a picture is taken sees the migration end just then."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.armed = False

    @property
    def now_ns(self) -> int:
        if self.armed:
            self.armed = False
            self._progress.failed(HostUnreachable("gone"))
            self._progress.advance(MigrationState.FAILED)
        return 0


def test_a_picture_that_is_settled_shows_how_it_ended() -> None:
    """Who watches stops at a settled picture; it may not be one of the moment before."""
    progress = Progress("web-1", [])
    clock = BetweenTwoReads(progress)
    progress.begin(cast("Clock", clock), cast("RoundSender", Sender()))
    progress.advance(MigrationState.PRE_COPY)
    clock.armed = True
    taken: list[Report] = [progress.report(), progress.report()]
    assert progress.state is MigrationState.FAILED
    for report in taken:
        assert report.settled == report.state.is_outcome
    assert taken[-1].settled
