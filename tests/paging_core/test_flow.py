"""The flow of faults: what the events say agrees with what the guest counted by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from paging_core.config import (
    CleanPolicy,
    GroupPolicy,
    GroupScope,
    GuestConfig,
    Paging,
    TrackerConfig,
)
from paging_core.events import Fault
from paging_core.flow import FLOW_DTYPE, FlowKind, FlowRows
from paging_core.flow_buffer import FlowBuffer
from paging_core.guest import Cleaned
from paging_core.model_guest import ModelGuest

MEMORY_BYTES = 8 << 20
VIRTUAL, PHYSICAL = GroupScope.VIRTUAL, GroupScope.PHYSICAL
TRACKERS = [
    TrackerConfig(),
    TrackerConfig(group=GroupPolicy(16)),
    TrackerConfig(group=GroupPolicy(1024)),
    TrackerConfig(group=GroupPolicy(64, PHYSICAL)),
    TrackerConfig(clean=CleanPolicy.WRITE_PROTECT, group=GroupPolicy(8)),
    TrackerConfig(Paging.HAP, group=GroupPolicy(16, PHYSICAL)),
    TrackerConfig(Paging.HAP, CleanPolicy.EAGER, group=GroupPolicy(1, PHYSICAL)),
    TrackerConfig(Paging.HAP, pml=True, group=GroupPolicy(1, PHYSICAL)),
]


class Told:
    """A guest that ran and was cleaned a few times, and what it told of it, clean by clean."""

    def __init__(self, tracker: TrackerConfig, workload: str = "uniform:wss=4MiB") -> None:
        self.parts: list[FlowRows] = []
        self.guest = ModelGuest.boot(GuestConfig(MEMORY_BYTES, tracker, workload=workload))
        self.guest.note_flow(lambda rows: self.parts.append(rows.copy()))
        self.guest.start_tracking()

    def rounds(self, count: int = 4, accesses: int = 400) -> list[tuple[FlowRows, Cleaned]]:
        told = []
        for _ in range(count):
            self.guest.run_accesses(accesses)
            self.guest.note_flow(None)
            before, self.parts = self.parts, []
            self.guest.note_flow(lambda rows: self.parts.append(rows.copy()))
            told.append((joined(before), self.guest.clean()))
        self.guest.note_flow(None)
        return told


def joined(parts: Sequence[FlowRows]) -> FlowRows:
    return np.concatenate([np.zeros(0, FLOW_DTYPE), *parts])


def of_kind(rows: FlowRows, kind: FlowKind) -> FlowRows:
    chosen: FlowRows = rows[rows["kind"] == kind]
    return chosen


def gfns(rows: FlowRows, kind: FlowKind) -> set[int]:
    return set(of_kind(rows, kind)["gfn"].tolist())


@pytest.mark.parametrize("tracker", TRACKERS, ids=str)
def test_faults_are_those_that_were_counted(tracker: TrackerConfig) -> None:
    told = Told(tracker, "churn:wss=1MiB,region=64KiB,fork_every=300")
    rows = joined([rows for rows, _ in told.rounds()])
    told.guest.clean()
    counted = told.guest.counters().faults
    faults = np.bincount(of_kind(rows, FlowKind.FAULT)["detail"], minlength=len(Fault))
    for fault in Fault:
        if fault is Fault.FIXUP:
            assert len(of_kind(rows, FlowKind.FIXUP)) == counted["fixup"]
        else:
            assert faults[fault] == counted[fault.name.lower()], fault


@pytest.mark.parametrize("tracker", TRACKERS, ids=str)
def test_what_became_dirty_is_what_the_clean_finds(tracker: TrackerConfig) -> None:
    """And the frames that nobody wrote are those opened without a first write."""
    told = Told(tracker)
    for rows, cleaned in told.rounds():
        fixed = gfns(rows, FlowKind.FIXUP) | gfns(rows, FlowKind.LOGGED)
        opened, written = gfns(rows, FlowKind.OPENED), gfns(rows, FlowKind.FIRST_WRITE)
        words: npt.NDArray[np.uint64] = cleaned.dirty
        dirty = set(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist())
        if not tracker.pml:  # what the hardware has not reported is logged by the clean itself
            assert fixed | opened == dirty
            assert len(opened - written) == cleaned.falsely_dirty_count
        assert not fixed & opened
        assert written <= opened
        assert len(of_kind(rows, FlowKind.FIRST_WRITE)) == len(written)


def test_a_frame_is_opened_with_the_group_of_its_leader() -> None:
    told = Told(TrackerConfig(group=GroupPolicy(32, PHYSICAL)))
    seen = 0
    for rows, _ in told.rounds():
        leaders = gfns(rows, FlowKind.FIXUP)
        for row in of_kind(rows, FlowKind.OPENED):
            assert int(row["leader"]) in leaders
            assert int(row["gfn"]) // 32 == int(row["leader"]) // 32
            seen += 1
    assert seen > 100


def test_time_goes_forward_and_ends_at_the_guests_own() -> None:
    told = Told(TrackerConfig(group=GroupPolicy(4)))
    rows = joined([rows for rows, _ in told.rounds()])
    assert (np.diff(rows["time_ps"]) >= 0).all()
    assert 0 < rows["time_ps"][0] < rows["time_ps"][-1] <= told.guest.time_ns * 1000 + 999


def test_the_process_that_ran_is_named() -> None:
    told = Told(TrackerConfig(), "churn:wss=1MiB,region=64KiB,fork_every=300")
    rows = joined([rows for rows, _ in told.rounds()])
    assert len(set(rows["space"].tolist())) > 1


def test_shadows_built_and_dropped_balance() -> None:
    told = Told(TrackerConfig())
    rows = joined([rows for rows, _ in told.rounds()])
    core = told.guest.machine.core
    built = len(of_kind(rows, FlowKind.SHADOW_BUILT))
    assert 0 < built < int(core["shadow"]["pages_built"][0])  # some were built while it booted
    assert len(of_kind(rows, FlowKind.SHADOW_DROPPED)) > 0


def test_nothing_is_lost_when_the_buffer_is_small() -> None:
    """A kernel that finds it full has it emptied and goes on."""
    parts: dict[int, list[FlowRows]] = {}
    for rows in (3, 1 << 16):
        config = GuestConfig(
            MEMORY_BYTES, TrackerConfig(group=GroupPolicy(64)), workload="uniform:wss=4MiB"
        )
        guest = ModelGuest.boot(config)
        buffer = FlowBuffer(guest.machine.core, partial(_keep, parts.setdefault(rows, [])), rows)
        guest.start_tracking()
        guest.run_accesses(2000)
        buffer.close()
    assert max(len(part) for part in parts[3]) == 3
    np.testing.assert_array_equal(joined(parts[3]), joined(parts[1 << 16]))


def _keep(parts: list[FlowRows], rows: FlowRows) -> None:
    parts.append(rows.copy())


def test_a_guest_is_the_same_whether_it_tells_or_not() -> None:
    told = Told(TrackerConfig(group=GroupPolicy(8)))
    told.rounds(2)
    silent = ModelGuest.boot(told.guest.config)
    silent.start_tracking()
    for _ in range(2):
        silent.run_accesses(400)
        silent.clean()
    assert silent.time_ns == told.guest.time_ns
    assert silent.counters() == told.guest.counters()


def test_what_the_sink_raises_ends_the_run() -> None:
    class Full(Exception):
        pass

    def refuse(_rows: FlowRows) -> None:
        raise Full

    guest = ModelGuest.boot(
        GuestConfig(64 << 20, TrackerConfig(group=GroupPolicy(512)), workload="uniform:wss=48MiB")
    )
    guest.note_flow(refuse)
    guest.start_tracking()
    with pytest.raises(Full):
        _live(guest)


def _live(guest: ModelGuest) -> None:
    for _ in range(8):
        guest.run_accesses(20_000)
        guest.clean()
