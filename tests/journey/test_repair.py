"""A page that is lost behind the acknowledgements: found by the proof, repaired, and recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dest_host.receiver import Receiver
from pageferry.in_process import DirectTransport, destination
from paging_core.config import GroupPolicy, GuestConfig, TrackerConfig
from paging_core.errors import VerificationFailed
from paging_core.model_guest import ModelGuest
from source_host.migration import Migration
from source_host.precopy.flow import NO_FLOW, Flow
from source_host.precopy.link import Link
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.transport import Offer
from source_host.states import MigrationState
from source_host.watch.flow_recorder import FlowRecorder
from tests.journey.in_process import KeepingFactory, assert_same, booted
from wire.hosting.guests.states import GuestState, guest_lifecycle

CONFIG = GuestConfig(
    8 << 20, TrackerConfig(group=GroupPolicy(frames=8)), workload="uniform:wss=2MiB", seed=5
)
PLAN = Plan(link=Link(10**9), max_rounds=3)


class LosingTransport(DirectTransport):
    """Damages frames at the destination before each of its comparisons.

    Attributes:
        losses: frames to damage, one list for each comparison of the root.
        migration: whose state tells when that is.
    """

    migration: Migration

    def __init__(self, receiver: Receiver, losses: Sequence[Sequence[int]]) -> None:
        super().__init__(receiver)
        self.losses = [list(gfns) for gfns in losses]

    def drain(self) -> None:
        """The last thing that is waited for before memory is compared."""
        super().drain()
        still = self.migration.state in (MigrationState.STOP_AND_COPY, MigrationState.VERIFYING)
        if still and self.losses:
            self._incoming._standing().frames[self.losses.pop(0), 100] ^= 0x55


def migrated(
    guest: ModelGuest, receiver: Receiver, losses: Sequence[Sequence[int]], flow: Flow = NO_FLOW
) -> tuple[Report, GuestState]:
    life = guest_lifecycle("guest")
    life.to(GuestState.RUNNING)
    transport = LosingTransport(receiver, losses)
    transport.migration = migration = Migration(
        plan=PLAN,
        offer=Offer("guest-1", "guest", guest.config, PLAN.make_key(guest.config.seed)),
        guest_life=life,
        transport=transport,
        flow=flow,
    )
    migration.run(guest)
    assert transport.losses == []
    return migration.report(), life.state


def test_the_guest_that_was_repaired_is_its_twin_and_the_flow_adds_up(tmp_path: Path) -> None:
    lost = [3, 700, 701, 2047]
    factory = KeepingFactory()
    with destination(CONFIG.memory_bytes, factory) as receiver:
        with booted(CONFIG) as guest:
            flow = FlowRecorder(tmp_path / "flow")
            report, state = migrated(guest, receiver, [lost], flow)
            position = guest.position
        assert report.error is None, report.error
        assert (state, report.totals.repaired_frames) == (GuestState.MOVED, len(lost))
        with booted(CONFIG) as twin:
            twin.run_accesses(position)
            assert_same(factory.guest, twin)
    sends, moments = (
        pq.read_table(tmp_path / "flow" / f"{n}.parquet") for n in ("sends", "moments")
    )
    assert sends.num_rows == report.totals.sent_frames
    assert pc.count_distinct(sends["gfn"]).as_py() == report.totals.unique_frames
    last = report.rounds[-1]
    assert last.repair
    again = sends.filter(pc.equal(sends["round"], last.round))
    assert again["gfn"].to_pylist() == lost
    assert set(again["kind"].to_pylist()) <= {"data", "zero"}
    for kind in ("round_started", "round_ended"):
        rows = moments.filter(pc.equal(moments["kind"], kind))
        assert rows["round"].to_pylist() == [stats.round for stats in report.rounds]
    assert json.loads((tmp_path / "flow" / "flow.json").read_text())["outcome"] == "completed"


def test_what_is_lost_twice_ends_it_and_the_guest_goes_on() -> None:
    with destination(CONFIG.memory_bytes) as receiver, booted(CONFIG) as guest:
        report, state = migrated(guest, receiver, [[3, 9], [9]])
        assert isinstance(report.error, VerificationFailed)
        assert report.error.gfns == (9,)
        assert state is GuestState.RUNNING
        assert receiver.guests.all() == []


@pytest.mark.parametrize("losses", [[[]], [[1]]])
def test_a_repaired_migration_is_repeated_byte_for_byte(losses: list[list[int]]) -> None:
    reports = []
    for _ in range(2):
        with destination(CONFIG.memory_bytes) as receiver, booted(CONFIG) as guest:
            reports.append(migrated(guest, receiver, losses)[0])
    assert reports[0] == reports[1]
