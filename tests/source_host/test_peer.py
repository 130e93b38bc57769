"""Whatever a destination answers over the network, it decides nothing about the guest here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from paging_core import errors
from paging_core.config import GuestConfig
from paging_core.errors import (
    ContractMismatch,
    HostUnreachable,
    NotFound,
    OutcomeUnknown,
    VerificationFailed,
    WrongHost,
)
from source_host.grpc_transport import GrpcTransport
from source_host.migration import Migration
from source_host.precopy.report import Report
from source_host.precopy.transport import Handover, Offer
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


def asked_about(hostile: Peer) -> GrpcTransport:
    """A migration that was prepared there."""
    transport = GrpcTransport(hostile.address)
    transport.prepare(Offer("vm-1", "vm", GuestConfig(1 << 20)))
    return transport


@pytest.mark.parametrize("host_id", ["", "another.2"])
def test_answers_of_another_host_are_none(hostile: Peer, host_id: str) -> None:
    """It may answer well, refuse, or know nothing: it is not the host that was prepared at."""
    transport = asked_about(hostile)
    hostile.host_id = host_id
    with pytest.raises(WrongHost):
        transport.is_committed()
    with pytest.raises(WrongHost):
        transport.abort("a lost answer")
    hostile.says = dict.fromkeys(("GetIncoming", "Abort", "Commit"), "NotFound")
    with pytest.raises(HostUnreachable, match="does not show"):
        transport.is_committed()
    with pytest.raises(HostUnreachable, match="does not show"):
        transport.abort("a lost answer")
    with pytest.raises(OutcomeUnknown):
        transport.commit(Handover(1, b"", start=False))
    hostile.says = {}
    with pytest.raises(OutcomeUnknown, match="another host"):
        transport.commit(Handover(1, b"", start=False))
    transport.close()


def test_what_the_right_host_does_not_know_was_not_committed(hostile: Peer) -> None:
    transport = asked_about(hostile)
    hostile.says = dict.fromkeys(("GetIncoming", "Abort", "Commit"), "NotFound")
    assert not transport.is_committed()
    transport.abort("a lost answer")
    with pytest.raises(NotFound):
        transport.commit(Handover(1, b"", start=False))
    transport.close()


def test_of_a_destination_without_an_identity_only_yes_is_believed(hostile: Peer) -> None:
    """One of contract 1.1: nobody else could say yes, and anybody could say no."""
    hostile.host_id = ""
    transport = asked_about(hostile)
    with pytest.raises(HostUnreachable, match="no identity"):
        transport.abort("a lost answer")
    transport.commit(Handover(1, b"", start=False))
    hostile.says = {"GetIncoming": "NotFound", "Commit": "NotFound"}
    with pytest.raises(HostUnreachable, match="does not show"):
        transport.is_committed()
    with pytest.raises(OutcomeUnknown):
        transport.commit(Handover(1, b"", start=False))
    hostile.says = {"Commit": "VerificationFailed"}
    with pytest.raises(VerificationFailed):
        transport.commit(Handover(1, b"", start=False))
    transport.close()


def test_an_identity_that_is_none_is_refused(hostile: Peer) -> None:
    hostile.host_id = "\x1b[31m"
    with pytest.raises(ContractMismatch, match="identity"):
        asked_about(hostile)
