"""Whatever a destination answers over the network, it decides nothing about the guest here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import destination_pb2 as pb
from paging_core import errors
from paging_core.config import GuestConfig
from paging_core.errors import (
    ContractBroken,
    ContractMismatch,
    HostUnreachable,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    VerificationFailed,
    WrongHost,
)
from source_host.grpc_transport import GrpcTransport
from source_host.migration import Migration
from source_host.precopy.report import Report
from source_host.precopy.transport import Handover, Offer
from source_host.states import MigrationState
from tests.guests.fake import FakeGuest, busy
from tests.keyed import KEY
from tests.source_host.harness import PLAN, filled
from tests.source_host.peer import Peer, ack, peer
from wire.hosting.guests.states import GuestState, guest_lifecycle
from wire.version import contract_message

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
    guest = filled(FakeGuest(600, busy(0, 300)))
    life = guest_lifecycle("vm")
    life.to(GuestState.RUNNING)
    migration = Migration(
        plan=replace(PLAN, max_rounds=2),
        offer=Offer("vm-1", "vm", GuestConfig(guest.n_frames * 4096), KEY),
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


HANDOVER = Handover(bytes(16), b"", bytes(16), start=False)


def asked_about(hostile: Peer) -> GrpcTransport:
    """A migration that was prepared there."""
    transport = GrpcTransport(hostile.address)
    transport.prepare(Offer("vm-1", "vm", GuestConfig(1 << 20), KEY))
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
        transport.commit(HANDOVER)
    hostile.says = {}
    with pytest.raises(OutcomeUnknown, match="another host"):
        transport.commit(HANDOVER)
    transport.close()


def test_what_the_right_host_does_not_know_was_not_committed(hostile: Peer) -> None:
    transport = asked_about(hostile)
    hostile.says = dict.fromkeys(("GetIncoming", "Abort", "Commit"), "NotFound")
    assert not transport.is_committed()
    transport.abort("a lost answer")
    with pytest.raises(NotFound):
        transport.commit(HANDOVER)
    transport.close()


@pytest.mark.parametrize("host_id", ["", "\x1b[31m", "x" * 1000])
def test_an_identity_that_is_none_is_refused(hostile: Peer, host_id: str) -> None:
    hostile.host_id = host_id
    with pytest.raises(ContractMismatch, match="identity"):
        asked_about(hostile)


PREPARED: dict[str, tuple[dict[str, int], str]] = {
    "no payload at all": ({"max_payload_bytes": 0}, "takes 0 bytes in one batch"),
    "less than a frame": ({"max_payload_bytes": 4095}, "takes 4095 bytes in one batch"),
    "pages that nobody sent": ({"next_sequence": 77}, "go on with batch 77"),
    "all pages that can be": ({"next_sequence": 2**64 - 1}, f"batch {2**64 - 1}"),
}


@pytest.mark.parametrize("answer", PREPARED)
def test_a_preparation_that_makes_no_sense(hostile: Peer, answer: str) -> None:
    changes, says = PREPARED[answer]
    fields: dict[str, Any] = {"max_payload_bytes": 1 << 20} | changes
    hostile.answers["Prepare"] = lambda _: pb.PrepareReply(version=contract_message(), **fields)
    error = migrated(hostile).error
    assert isinstance(error, ContractBroken)
    assert says in str(error)
    assert f"the destination at {hostile.address}" in str(error)
    assert hostile.calls == ["Prepare", "Abort"]


@pytest.mark.parametrize("most", [4096, 2**64 - 1])
def test_a_destination_that_takes_a_frame_or_all_the_world_at_once(
    hostile: Peer, most: int
) -> None:
    """One is slow and the other is more than is ever sent: neither is wrong."""
    hostile.answers["Prepare"] = lambda _: pb.PrepareReply(
        version=contract_message(), max_payload_bytes=most
    )
    hostile.says["CompareDigests"] = "NotFound"
    assert "so it says" in str(migrated(hostile).error)
    assert hostile.calls.count("Transfer") > (600 if most == 4096 else 1)


def test_a_destination_from_before_there_was_a_key(hostile: Peer) -> None:
    """It would compare digests that anybody can make collide, and call that verified."""
    version = common_pb2.ContractVersion(major=1, minor=1)
    hostile.answers["Prepare"] = lambda _: pb.PrepareReply(version=version, max_payload_bytes=4096)
    error = migrated(hostile).error
    assert isinstance(error, ContractMismatch)
    assert "upgrade the older host" in str(error)


STREAMS: dict[str, tuple[Callable[[int], Iterable[pb.TransferReply]], str]] = {
    "a batch that was not sent": (lambda _: [ack(5000)], "acknowledges batch 5000"),
    "the last of all batches": (lambda _: [ack(2**64 - 1)], f"batch {2**64 - 1}"),
    "one ahead": (lambda n: [ack(n + 2)], "acknowledges batch"),
    "a page request": (
        lambda n: [pb.TransferReply(page_request=pb.PageRequest(gfn=2**64 - 1)), ack(n)],
        "asks for a page",
    ),
}


@pytest.mark.parametrize("what", STREAMS)
def test_acknowledgements_of_what_was_not_sent(hostile: Peer, what: str) -> None:
    hostile.acks, says = STREAMS[what]
    error = migrated(hostile).error
    assert isinstance(error, ContractBroken)
    assert says in str(error)
    assert f"the destination at {hostile.address}" in str(error)


COMPARED: dict[str, tuple[Callable[[pb.CompareDigestsRequest], list[int]], str]] = {
    "without end": (lambda r: [0] * 200_000 if r.level else [], "200000 nodes of level 2"),
    "outside": (lambda r: [2**64 - 1, 2**40][: len(r.nodes)], "nobody asked about"),
    "nothing below": (lambda r: [0] if r.level == 2 else [], "contradicts itself"),
}


@pytest.mark.parametrize("what", COMPARED)
def test_comparisons_that_cannot_be(hostile: Peer, what: str) -> None:
    answer, says = COMPARED[what]
    hostile.answers["CompareDigests"] = lambda r: pb.CompareDigestsReply(differing=answer(r))
    error = migrated(hostile).error
    assert isinstance(error, ContractBroken)
    assert says in str(error)
    assert f"the destination at {hostile.address}" in str(error)
    assert hostile.calls[-1] == "Abort"


@pytest.mark.parametrize("method", ["Prepare", "CompareDigests"])
def test_an_answer_longer_than_any_needs_to_be_is_not_read(hostile: Peer, method: str) -> None:
    """Two million numbers that nobody asked for would be memory of this host."""
    if method == "Prepare":
        long = pb.PrepareReply(version=contract_message(), max_payload_bytes=1 << 20)
        long.version.MergeFromString(b"\x7a\x80\x80\x80\x01" + bytes(2 << 20))  # field 15, unknown
        hostile.answers["Prepare"] = lambda _: long
    else:
        hostile.answers["CompareDigests"] = lambda _: pb.CompareDigestsReply(
            differing=[0] * (2 << 20)
        )
    error = migrated(hostile).error
    assert isinstance(error, LimitExceeded)
    assert f"the host at {hostile.address}" in str(error)
