"""A guest that was taken over finds everything there: nothing is opened, loaded or compiled for it.

A host that has no file descriptor, no memory or no thread left refuses a guest before it is its
own. What it had to open for the guest afterwards would crash a guest that exists nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.workloads.catalog import describe_workloads
from tests.journey.hosts import CALL_S, Destination, Pair, asking, new_name, until
from tests.journey.test_traces import SQLITE, replaying
from wire.hosting.launch import HostProcess

WORKLOADS = [workload.name for workload in describe_workloads()]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Destination, Path]]:
    notes = tmp_path_factory.mktemp("audit") / "notes"
    environment = os.environ | {"AUDIT_NOTES": str(notes)}
    process = HostProcess("tests.journey.audited", environment=environment, wait=False)
    with Destination(process) as destination:
        yield destination, notes


def live(destination: Destination, name: str) -> None:
    """Everything that an operator does with a guest that arrived."""
    began = destination.stub.GetGuest(asking(name), timeout=CALL_S).accesses
    until(lambda: destination.stub.GetGuest(asking(name), timeout=CALL_S).accesses > began + 10_000)
    destination.stub.PauseGuest(asking(name), timeout=CALL_S)
    destination.step(name, 100_000)
    destination.stub.StartGuest(asking(name), timeout=CALL_S)
    destination.delete(name)


@pytest.mark.parametrize("paging", [common_pb2.PAGING_SHADOW, common_pb2.PAGING_HAP])
@pytest.mark.parametrize("workload", [*WORKLOADS, "a trace"])
def test_nothing_is_opened_for_a_guest_that_was_taken_over(
    pair: Pair,
    audited: tuple[Destination, Path],
    workload: str,
    paging: common_pb2.Paging.ValueType,
) -> None:
    destination, notes = audited
    guest = (
        replaying(SQLITE)
        if workload == "a trace"
        else common_pb2.GuestSpec(
            guest_id=new_name(), memory_bytes=16 << 20, workload=f"{workload}:wss=1MiB"
        )
    )
    guest.tracker.paging = paging
    began = len(notes.read_text().splitlines())
    name = pair.source.boot(guest)
    ended = pair.source.follow(
        pair.source.migrate(name, destination.address, clock=common_pb2.CLOCK_REAL, warmup_ns=0)
    )
    assert ended.state == pb.MIGRATION_STATE_COMPLETED, ended.error
    live(destination, name)
    assert notes.read_text().splitlines()[began:] == []
