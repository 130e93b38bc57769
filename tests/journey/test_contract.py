"""The destination's contract, tried by a client that knows destination.proto and nothing else.

The generated stubs and plain protobuf: none of the codec that the source host uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import destination_pb2 as pb
from paging_core.config import GuestConfig
from tests.journey.hosts import CALL_S, MIB, Destination, Pair, fails_with, new_name, until
from tests.journey.in_process import booted
from tests.journey.tamper import TAMPERED, seal
from tests.keyed import SECRET, memory_digest, proof, state_tag

MEMORY_BYTES = 8 * MIB
N_FRAMES = MEMORY_BYTES // 4096
BATCH_FRAMES = 512
WORKLOAD = "uniform:wss=3MiB"


class Traveller:
    """A guest at rest, and what there is to say about it.

    Attributes:
        frames: its memory, frame by frame.
        state: the rest of it.
        levels: its proof, from the tags of frames up to the root.
        digest: of its memory, for people.
    """

    def __init__(self) -> None:
        config = GuestConfig(MEMORY_BYTES, workload=WORKLOAD, seed=3)
        with booted(config) as guest:
            guest.run_accesses(5000)
            self.frames = [frame.tobytes() for frame in guest.memory.frames]
            self.state = guest.state()
            self.position = guest.position
        self.levels = proof(self.frames)
        self.digest = memory_digest(self.frames)

    @property
    def root(self) -> bytes:
        return self.levels[-1][0]

    def batch(self, sequence: int, round_number: int = 1) -> pb.PageBatch:
        """The next frames, as runs of one kind each."""
        first = sequence * BATCH_FRAMES
        batch = pb.PageBatch(sequence=sequence, round=round_number, compression=pb.COMPRESSION_NONE)
        content: list[bytes] = []
        for gfn in range(first, first + BATCH_FRAMES):
            frame = self.frames[gfn]
            kind = pb.FRAME_KIND_DATA if any(frame) else pb.FRAME_KIND_ZERO
            if batch.run_kind and batch.run_kind[-1] == kind:
                batch.run_frames[-1] += 1
            else:
                batch.run_first.append(gfn)
                batch.run_frames.append(1)
                batch.run_kind.append(kind)
            if kind == pb.FRAME_KIND_DATA:
                content.append(frame)
        batch.payload = b"".join(content)
        batch.payload_raw_bytes = len(batch.payload)
        batch.end_of_round = first + BATCH_FRAMES == N_FRAMES
        return seal(batch)

    def batches(self) -> list[pb.PageBatch]:
        """All memory."""
        return [self.batch(i) for i in range(N_FRAMES // BATCH_FRAMES)]


@pytest.fixture(scope="module")
def traveller() -> Traveller:
    return Traveller()


class Client:
    """One migration of `traveller`, step by step."""

    def __init__(self, destination: Destination, traveller: Traveller) -> None:
        self.stub = destination.stub
        self.traveller = traveller
        self.guest_id = new_name("traveller")
        self.migration_id = f"{self.guest_id}-1"

    def prepare(self, **changes: Any) -> pb.PrepareReply:
        guest = common_pb2.GuestSpec(
            guest_id=self.guest_id, memory_bytes=MEMORY_BYTES, workload=WORKLOAD, seed=3
        )
        fields: dict[str, Any] = {
            "version": common_pb2.ContractVersion(major=1, minor=7),
            "migration_id": self.migration_id,
            "guest": guest,
            "proof_key": SECRET,
        }
        return self.stub.Prepare(pb.PrepareRequest(**fields | changes), timeout=CALL_S)

    def hello(self, **changes: Any) -> pb.TransferMessage:
        fields = {"migration_id": self.migration_id} | changes
        return pb.TransferMessage(hello=pb.TransferHello(**fields))

    def transfer(self, messages: Sequence[pb.TransferMessage]) -> list[int]:
        """One whole stream; the acknowledgements."""
        replies = self.stub.Transfer(iter(messages), timeout=CALL_S)
        return [reply.ack.sequence for reply in replies]

    def send(self, batches: Sequence[pb.PageBatch], **hello: Any) -> list[int]:
        messages = [pb.TransferMessage(batch=batch) for batch in batches]
        return self.transfer([self.hello(**hello), *messages])

    def compare(self, level: int, nodes: Sequence[int], tags: Sequence[bytes]) -> list[int]:
        request = pb.CompareDigestsRequest(
            migration_id=self.migration_id, level=level, nodes=nodes, tags=b"".join(tags)
        )
        return list(self.stub.CompareDigests(request, timeout=CALL_S).differing)

    def commit(self, **changes: Any) -> common_pb2.GuestStatus:
        state = self.traveller.state
        fields: dict[str, Any] = {
            "migration_id": self.migration_id,
            "memory_tag": self.traveller.root,
            "guest_state": state,
            "state_tag": state_tag(state),
        }
        return self.stub.Commit(pb.CommitRequest(**fields | changes), timeout=CALL_S).guest

    def abort(self) -> None:
        self.stub.Abort(pb.AbortRequest(migration_id=self.migration_id), timeout=CALL_S)

    def status(self) -> pb.IncomingStatus:
        asked = pb.IncomingRequest(migration_id=self.migration_id)
        return self.stub.GetIncoming(asked, timeout=CALL_S)


@pytest.fixture
def client(pair: Pair, traveller: Traveller) -> Iterator[Client]:
    """Not prepared yet; whatever is left of it is dropped at the end."""
    client = Client(pair.destination, traveller)
    yield client
    with suppress(grpc.RpcError):  # it was committed
        client.abort()


def test_a_guest_is_taken_over_by_the_contract_alone(client: Client, pair: Pair) -> None:
    reply = client.prepare()
    assert (reply.version.major, reply.next_sequence) == (1, 0)
    assert reply.max_payload_bytes >= MIB
    assert client.status().state == pb.INCOMING_STATE_PREPARED
    batches = client.traveller.batches()
    acknowledged = client.send(batches)
    assert acknowledged[-1] == len(batches) - 1
    assert acknowledged == sorted(acknowledged)
    status = client.status()
    assert status.state == pb.INCOMING_STATE_RECEIVING
    assert (status.next_sequence, status.received_frames) == (len(batches), N_FRAMES)
    top = len(client.traveller.levels) - 1
    assert client.compare(top, [0], [client.traveller.root]) == []
    assert client.status().state == pb.INCOMING_STATE_VERIFIED
    guest = client.commit()
    assert guest.state == common_pb2.GUEST_STATE_PAUSED
    assert guest.accesses == client.traveller.position
    assert client.status().state == pb.INCOMING_STATE_COMMITTED
    arrived = pair.destination.guest(client.guest_id)
    assert arrived.memory_digest == client.traveller.digest
    pair.destination.step(client.guest_id, 1000)
    assert client.commit() == guest  # again: answered like the first time, and changes nothing
    assert pair.destination.guest(client.guest_id).accesses == guest.accesses + 1000
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.abort()
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.send(batches)
    pair.destination.delete(client.guest_id)
    pair.destination.assert_never_had(client.guest_id)


def spec(**changes: Any) -> common_pb2.GuestSpec:
    fields: dict[str, Any] = {"guest_id": "other", "memory_bytes": MEMORY_BYTES, "workload": "idle"}
    return common_pb2.GuestSpec(**fields | changes)


UNPREPARED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a newer contract": (
        {"version": common_pb2.ContractVersion(major=2)}, "FAILED_PRECONDITION", "contract 2.0"
    ),
    "an older contract": (
        {"version": common_pb2.ContractVersion(major=1, minor=1), "proof_key": b""},
        "FAILED_PRECONDITION",
        "has contract 1.1",
    ),
    "no key": ({"proof_key": b""}, "INVALID_ARGUMENT", "32 bytes, not 0"),
    "a short key": ({"proof_key": bytes(16)}, "INVALID_ARGUMENT", "32 bytes, not 16"),
    "no contract": ({"version": None}, "FAILED_PRECONDITION", "contract 0.0"),
    "no migration": ({"migration_id": ""}, "INVALID_ARGUMENT", "migration_id '' is no name"),
    "no guest": ({"guest": spec(guest_id="")}, "INVALID_ARGUMENT", "guest_id '' is no name"),
    "a long name": ({"migration_id": "m" * 101}, "INVALID_ARGUMENT", "use 1 to 100 letters"),
    "a name of two lines": ({"guest": spec(guest_id="web\n")}, "INVALID_ARGUMENT", "'web\\n'"),
    "many streams": ({"streams": 2}, "INVALID_ARGUMENT", "one stream"),
    "too large": (
        {"guest": spec(memory_bytes=2**40)}, "RESOURCE_EXHAUSTED", "--max-guest-memory"
    ),
    "half a frame": ({"guest": spec(memory_bytes=4097)}, "INVALID_ARGUMENT", "4096-byte frame"),
    "no memory": ({"guest": spec(memory_bytes=0)}, "INVALID_ARGUMENT", "4096-byte frame"),
    "unknown workload": ({"guest": spec(workload="sorting")}, "INVALID_ARGUMENT", "'sorting'"),
    "group of three": (
        {"guest": spec(tracker=common_pb2.TrackerConfig(group=common_pb2.GroupPolicy(frames=3)))},
        "INVALID_ARGUMENT",
        "not a power of two",
    ),
    "unknown paging": (
        {"guest": spec(tracker=common_pb2.TrackerConfig(paging=9))},  # type: ignore[arg-type]
        "INVALID_ARGUMENT",
        "Paging 9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", UNPREPARED)
def test_a_prepare_that_is_refused_reserves_nothing(client: Client, wrong: str) -> None:
    changes, code, says = UNPREPARED[wrong]
    with fails_with(grpc.StatusCode[code]) as refused:
        client.prepare(**changes)
    assert says in refused.details
    with fails_with(grpc.StatusCode.NOT_FOUND):
        client.status()


def test_a_long_reason_is_not_kept(client: Client) -> None:
    abort = pb.AbortRequest(migration_id=client.migration_id, reason="because " * 10_000)
    client.stub.Abort(abort, timeout=CALL_S)
    assert 8 < len(client.status().message) < 1000


def test_preparing_twice_is_preparing_once(client: Client) -> None:
    client.prepare()
    client.send(client.traveller.batches()[:2])
    assert client.prepare().next_sequence == 2
    with fails_with(grpc.StatusCode.ALREADY_EXISTS):
        client.prepare(proof_key=bytes(32))
    other = spec(guest_id=client.guest_id, memory_bytes=2 * MEMORY_BYTES)
    with fails_with(grpc.StatusCode.ALREADY_EXISTS):
        client.prepare(guest=other)
    with fails_with(grpc.StatusCode.ALREADY_EXISTS) as refused:
        client.prepare(migration_id=f"{client.guest_id}-2")
    assert "under way" in refused.details


@pytest.mark.parametrize("wrong", TAMPERED)
def test_a_bad_batch_is_refused_and_nothing_of_it_is_kept(client: Client, wrong: str) -> None:
    """The good one may follow on another stream, and the guest arrives whole."""
    tamper, code = TAMPERED[wrong]
    client.prepare()
    first, second, *rest = client.traveller.batches()
    bad = pb.PageBatch.FromString(second.SerializeToString())
    tamper(bad)
    with fails_with(grpc.StatusCode[code]):
        client.send([first, bad])
    assert client.status().next_sequence == 1
    assert client.status().received_frames == BATCH_FRAMES
    client.send([second, *rest], first_sequence=1)
    assert client.compare(2, [0], [client.traveller.root]) == []


def test_a_batch_that_comes_twice_is_refused(client: Client) -> None:
    client.prepare()
    first, *_ = client.traveller.batches()
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
        client.send([first, first])
    assert "go on with 1" in refused.details


def test_streams_that_break_the_contract(client: Client) -> None:
    client.prepare()
    batch = pb.TransferMessage(batch=client.traveller.batch(0))
    for messages, code in (
        ([], "DATA_LOSS"),
        ([batch], "DATA_LOSS"),
        ([client.hello(), client.hello()], "DATA_LOSS"),
        ([client.hello(), pb.TransferMessage()], "DATA_LOSS"),
        ([client.hello(stream=1)], "INVALID_ARGUMENT"),
        ([client.hello(first_sequence=3)], "FAILED_PRECONDITION"),
        ([client.hello(migration_id="nobody's")], "NOT_FOUND"),
    ):
        with fails_with(grpc.StatusCode[code]):
            client.transfer(messages)
    assert client.status().next_sequence == 0


def test_a_later_stream_takes_over(client: Client) -> None:
    """Who comes back after a cut need not wait until the destination notices it."""
    client.prepare()
    first, second, *_ = client.traveller.batches()
    old: SimpleQueue[pb.TransferMessage | None] = SimpleQueue()
    old.put(client.hello())
    old.put(pb.TransferMessage(batch=first))
    stale = client.stub.Transfer(iter(old.get, None), timeout=CALL_S)
    assert client.send([], first_sequence=_arrived(client, 1)) == []
    old.put(pb.TransferMessage(batch=second))
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION) as refused:
        list(stale)
    old.put(None)
    assert "another stream" in refused.details
    assert client.status().next_sequence == 1


def _arrived(client: Client, batches: int) -> int:
    """Wait until so many batches have arrived."""
    until(lambda: client.status().next_sequence == batches)
    return batches


def test_a_stream_that_is_cut_and_given_up(client: Client) -> None:
    client.prepare()
    old: SimpleQueue[pb.TransferMessage | None] = SimpleQueue()
    old.put(client.hello())
    old.put(pb.TransferMessage(batch=client.traveller.batch(0)))
    cut = client.stub.Transfer(iter(old.get, None), timeout=CALL_S)
    _arrived(client, 1)
    cut.cancel()
    old.put(None)
    client.abort()
    status = client.status()
    assert status.state == pb.INCOMING_STATE_ABORTED
    assert status.received_frames == BATCH_FRAMES
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.send([client.traveller.batch(1)], first_sequence=1)
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.prepare()
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.commit()


STEPS = ("nothing", "prepared", "receiving", "verified")


@pytest.mark.parametrize("state", STEPS)
def test_aborted_in_each_state_it_stays_so(client: Client, pair: Pair, state: str) -> None:
    if state != "nothing":
        client.prepare()
    if state in {"receiving", "verified"}:
        client.send(client.traveller.batches())
    if state == "verified":
        assert client.compare(2, [0], [client.traveller.root]) == []
    client.abort()
    client.abort()
    assert client.status().state == pb.INCOMING_STATE_ABORTED
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.prepare()
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.commit()
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.compare(2, [0], [client.traveller.root])
    pair.destination.assert_never_had(client.guest_id)


def test_nothing_is_committed_before_it_is_there(client: Client) -> None:
    with fails_with(grpc.StatusCode.NOT_FOUND):
        client.commit()
    client.prepare()
    with fails_with(grpc.StatusCode.FAILED_PRECONDITION):
        client.commit()
    client.send(client.traveller.batches()[:-1])
    with fails_with(grpc.StatusCode.DATA_LOSS):
        client.commit()  # a part of memory is missing


def test_a_difference_is_found_level_by_level(client: Client) -> None:
    """The tree tells which frames differ; the guest is refused until they do not."""
    traveller = client.traveller
    client.prepare()
    batches = traveller.batches()
    changed = batches[1]
    data = list(changed.run_kind).index(pb.FRAME_KIND_DATA)
    gfn = changed.run_first[data]
    changed.payload = b"\xff" + changed.payload[1:]
    assert changed.payload[:4096] != traveller.frames[gfn]
    seal(changed)
    client.send(batches)
    assert client.compare(0, [], []) == []  # nothing is asked: the tags are made
    assert client.compare(2, [0], traveller.levels[2]) == [0]
    (node,) = client.compare(1, range(N_FRAMES // 32), traveller.levels[1])
    assert node == gfn // 32
    below = range(node * 32, node * 32 + 32)
    assert client.compare(0, below, [traveller.levels[0][i] for i in below]) == [gfn]
    with fails_with(grpc.StatusCode.DATA_LOSS):
        client.commit()
    with fails_with(grpc.StatusCode.INVALID_ARGUMENT):
        client.compare(3, [0], [bytes(16)])
    again = traveller.batch(1, 2)
    again.sequence = len(batches)
    client.send([seal(again)], first_sequence=len(batches))
    assert client.commit().accesses == traveller.position


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"memory_tag": bytes(16)}, "DATA_LOSS"),
        ({"memory_tag": b""}, "DATA_LOSS"),
        ({"state_tag": bytes(16)}, "DATA_LOSS"),
        ({"state_tag": b""}, "DATA_LOSS"),
        ({"guest_state": b"{}", "state_tag": state_tag(b"{}")}, "INVALID_ARGUMENT"),
    ],
)
def test_a_commit_that_is_refused_may_be_repeated_rightly(
    client: Client, pair: Pair, changes: dict[str, Any], code: str
) -> None:
    client.prepare()
    client.send(client.traveller.batches())
    with fails_with(grpc.StatusCode[code]):
        client.commit(**changes)
    pair.destination.assert_never_had(client.guest_id)
    assert client.commit().accesses == client.traveller.position
