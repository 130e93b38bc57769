"""Who watches a migration is told of its end when the host has acted upon it, and not before."""

from __future__ import annotations

from threading import Event, Thread
from typing import cast

import pytest

from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.errors import HostUnreachable
from paging_core.model_guest import ModelGuest
from source_host.migration import Migration
from source_host.migrations import HostedMigration
from source_host.precopy.clock_name import ClockName
from source_host.precopy.plan import Plan
from source_host.precopy.progress import Progress
from source_host.precopy.transport import Offer
from source_host.states import MigrationState
from tests.keyed import KEY
from wire.hosting.guests.hosted import HostedGuest

CONFIG = GuestConfig(2**20, workload="idle")


class Ended:
    """A migration that failed a moment ago; its observers were not told yet."""

    def __init__(self) -> None:
        progress = Progress("web-1", [])
        progress.failed(HostUnreachable("gone"))
        progress.advance(MigrationState.FAILED)
        self.report = progress.report

    def run(self, _guest: ModelGuest) -> None:
        """It is over."""


@pytest.fixture
def hosted() -> HostedGuest:
    return HostedGuest("web", ModelGuest.boot(CONFIG), CONFIG)


def test_the_guest_is_free_when_the_end_is_told(hosted: HostedGuest) -> None:
    guest = hosted.claim("web-1")
    offer, plan = Offer("web-1", "web", CONFIG, KEY), Plan(clock=ClockName.REAL)
    entry = HostedMigration(offer, hosted, pb.MigrateRequest(), plan, slot=0)
    ended = Ended()
    entry.begin(cast("Migration", ended), guest)
    asked = 0

    def told_at_the_third_look() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            entry.changed(ended.report())
        return asked < 10

    pictures = []
    for picture in entry.watch(0.0, told_at_the_third_look):
        pictures.append(picture.state)
        hosted.check_idle("delete")
    assert pictures == [pb.MIGRATION_STATE_FAILED]
    assert asked < 10
    assert [picture.state for picture in entry.watch(0.0, lambda: True)] == pictures


def test_who_leaves_is_not_waited_for(hosted: HostedGuest) -> None:
    guest = hosted.claim("web-1")
    offer, plan = Offer("web-1", "web", CONFIG, KEY), Plan(clock=ClockName.REAL)
    entry = HostedMigration(offer, hosted, pb.MigrateRequest(), plan, slot=0)
    entry.begin(cast("Migration", Ended()), guest)
    left, looked = Event(), Event()

    def is_here() -> bool:
        looked.set()
        return not left.is_set()

    watching = Thread(target=lambda: list(entry.watch(3600.0, is_here)), daemon=True)
    watching.start()
    assert looked.wait(30)
    left.set()
    entry.wake()
    watching.join(30)
    assert not watching.is_alive()
