"""Whatever a destination answers over the network, it decides nothing about the guest here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from paging_core import errors
from paging_core.config import GuestConfig
from paging_core.errors import HostUnreachable, OutcomeUnknown, VerificationFailed
from source_host.grpc_transport import GrpcTransport
from source_host.migration import Migration
from source_host.precopy.report import Report
from source_host.precopy.transport import Offer
from source_host.states import GuestState, MigrationState, guest_lifecycle
from tests.source_host.harness import PLAN, filled
from tests.source_host.paper_guest import PaperGuest, busy
from tests.source_host.peer import Peer, peer

LEAVES = [name for name, leaf in vars(errors).items() if isinstance(leaf, type)]
OF_THE_SOURCE = (
    "GuestOutOfMemory",
    "GuestCrashed",
    "MigrationCancelled",
    "InvariantViolation",
    "OutcomeUnknown",
)


@pytest.fixture
def hostile() -> Iterator[Peer]:
    with peer() as serving:
        yield serving


def migrated(hostile: Peer) -> Report:
    """How a migration there ended; the guest goes on here, whatever it was."""
    guest = filled(PaperGuest(600, busy(0, 300)))
    life = guest_lifecycle("vm")
    life.to(GuestState.RUNNING)
    migration = Migration(
        plan=replace(PLAN, max_rounds=2),
        offer=Offer("vm-1", "vm", GuestConfig(guest.n_frames * 4096)),
        guest_life=life,
        transport=GrpcTransport(hostile.address),
        ask_again_after_s=(),
    )
    migration.run(guest)
    assert migration.state is MigrationState.FAILED
    assert life.state is GuestState.RUNNING
    assert not guest.tracking
    return migration.report()


@pytest.mark.parametrize("method", ["Prepare", "Transfer", "CompareDigests", "Commit"])
@pytest.mark.parametrize("leaf", LEAVES)
def test_any_answer_leaves_the_guest_as_it_was(hostile: Peer, leaf: str, method: str) -> None:
    hostile.says[method] = leaf
    report = migrated(hostile)
    assert "so it says" in str(report.error) or isinstance(report.error, OutcomeUnknown)


@pytest.mark.parametrize("method", ["Prepare", "Transfer", "CompareDigests"])
@pytest.mark.parametrize("leaf", OF_THE_SOURCE)
def test_what_only_this_host_can_say_of_itself_is_no_answer(
    hostile: Peer, leaf: str, method: str
) -> None:
    hostile.says[method] = leaf
    assert type(migrated(hostile).error) is HostUnreachable
    assert hostile.calls[-1] == "Abort"


@pytest.mark.parametrize("leaf", OF_THE_SOURCE)
def test_a_commit_that_is_answered_so_is_asked_about(hostile: Peer, leaf: str) -> None:
    hostile.says["Commit"] = leaf
    assert type(migrated(hostile).error) is OutcomeUnknown
    assert hostile.calls[-2:] == ["GetIncoming", "Abort"]


@pytest.mark.parametrize("leaf", OF_THE_SOURCE)
def test_questions_that_are_answered_so_are_not_answered(hostile: Peer, leaf: str) -> None:
    hostile.says = {"GetIncoming": leaf, "Abort": leaf}
    transport = GrpcTransport(hostile.address)
    with pytest.raises(HostUnreachable, match="so it says"):
        transport.is_committed()
    with pytest.raises(HostUnreachable, match="so it says"):
        transport.abort("a lost answer")
    transport.close()


@pytest.mark.parametrize(
    ("gfns", "meant"), [("a,b", ()), ("3,x,9" + "9" * 5000, (3,)), ("-1,,7", (7,))]
)
def test_frames_that_are_none_are_passed_over(
    hostile: Peer, gfns: str, meant: tuple[int, ...]
) -> None:
    hostile.says["CompareDigests"] = "VerificationFailed"
    hostile.gfns = gfns
    error = migrated(hostile).error
    assert isinstance(error, VerificationFailed)
    assert error.gfns == meant
