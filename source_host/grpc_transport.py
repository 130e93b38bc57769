"""Pages over gRPC: one bidirectional stream for batches, unary calls for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from pageferry.v1 import destination_pb2 as pb
from pageferry.v1 import destination_pb2_grpc
from paging_core.errors import (
    ContractBroken,
    ContractMismatch,
    DowntimeExceeded,
    GuestCrashed,
    HostUnreachable,
    InvariantViolation,
    MigrationCancelled,
    NotFound,
    OutcomeUnknown,
    PageferryError,
    Unauthenticated,
    WrongHost,
)
from paging_core.proof import Tags
from paging_core.units import FRAME_BYTES
from source_host.in_flight import STALL_S, InFlight
from source_host.precopy.transport import Handover, Metadata, Offer
from wire.batch import Batch
from wire.channel import CHANNEL_OPTIONS, PING_BEHIND_PAGES_MS, connect
from wire.codec import encode_batch, encode_hello, page_stream
from wire.convert import guest_spec
from wire.identity import HOST_KEY, is_host_id
from wire.replies import clean_replies
from wire.status import ERROR_KEY, error_from_rpc
from wire.trust.security import THIS_MACHINE, Security
from wire.version import check_version, contract_message

PREPARE_S = 120.0
"""The destination touches all of the memory that it reserves."""
COMPARE_S = 120.0
"""The first comparison makes it digest all memory."""
ASK_S = 5.0
"""Questions that need no work."""
ASK_PROGRESS_S = 5.0
"""Nothing was acknowledged for so long: ask how many bytes came, and again after as long."""
ANSWER_PROGRESS_S = 20.0
"""That question shares a slow link with the pages."""
SLOWEST_LINK_BYTES_PER_S = 1000
"""Deadlines of calls leave so much time for their messages: 8 kbit/s."""

MAX_REPLY_BYTES = 2**20
"""No answer of a destination is longer: 4096 nodes that differ are 40 KiB."""
_OF_ITS_OWN = ("grpc.http2.ping_timeout_ms", "grpc.max_receive_message_length")

CHANNEL_OPTIONS_OF_A_STREAM = (
    *(option for option in CHANNEL_OPTIONS if option[0] not in _OF_ITS_OWN),
    ("grpc.http2.ping_timeout_ms", PING_BEHIND_PAGES_MS),
    ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
    # Connections of its own, tried again at once: an in-doubt commit waits for the answer.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_OF_THIS_HOST = (
    DowntimeExceeded,
    GuestCrashed,
    InvariantViolation,
    MigrationCancelled,
    OutcomeUnknown,
)
"""What is said of a guest, a caller or a bug here: no destination can know any of it."""
_Request = TypeVar("_Request", bound=Message)
_Reply = TypeVar("_Reply")


class GrpcTransport:
    """Implements `source_host.precopy.transport.Transport`."""

    def __init__(
        self,
        address: str,
        security: Security = THIS_MACHINE,
        *,
        on_ack: Callable[[float], None] = lambda _seconds: None,
        metadata: Callable[[], Metadata] = tuple,
        stall_s: float = STALL_S,
    ) -> None:
        """Nothing is sent before `prepare`.

        Args:
            address: of the destination host.
            security: who this host is there.
            on_ack: told the seconds between a batch and its acknowledgement.
            metadata: what each call carries beside its message.
            stall_s: a destination that takes no page for so long is given up.

        Raises:
            BadOption: not an address, or of another machine and there is no certificate.
        """
        self._address = address
        self._security = security
        self._channel = connect(address, security, CHANNEL_OPTIONS_OF_A_STREAM)
        self._stub = destination_pb2_grpc.DestinationHostStub(clean_replies(self._channel))
        self._migration_id = ""
        self._host_id = ""
        self._ask_every_s = min(ASK_PROGRESS_S, stall_s / 4)
        self._window = InFlight(
            on_ack=on_ack, stall_s=stall_s, peer=f"the destination at {address}"
        )
        self._metadata = metadata
        self._reader: Thread | None = None
        self._stream: grpc.Call | None = None
        self._closed = Event()
        self._lock = Lock()
        self._answered = False
        self._interrupted = False
        self._pending: grpc.Future[Any] | None = None
        self._tagging: grpc.Future[Any] | None = None

    @property
    def peer(self) -> str:
        """By its address."""
        return f"the destination at {self._address}"

    def prepare(self, offer: Offer) -> int:
        """Reserve memory at the destination and open the stream.

        Raises:
            ContractMismatch: it has another version.
            ContractBroken: it takes no frame, or says that it has pages already.
        """
        self._migration_id = offer.migration_id
        reply = self._ask(
            self._stub.Prepare,
            pb.PrepareRequest(
                version=contract_message(),
                migration_id=offer.migration_id,
                guest=guest_spec(offer.guest_id, offer.config),
                trace_digest=offer.trace_digest,
                streams=1,
                proof_key=offer.key.secret,
            ),
            PREPARE_S,
        )
        self._answered = True
        check_version(reply.version)
        self._remember_host(reply.host_id)
        self._check(reply)
        self._open_stream()
        return reply.max_payload_bytes

    def send(self, batch: Batch) -> int:
        """Put a batch on the stream; waits while the window is full."""
        message = encode_batch(batch)
        self._window.put(message)
        return len(message)

    @property
    def unacknowledged_bytes(self) -> int:
        """What the window holds."""
        return self._window.n_bytes

    @property
    def message_bytes(self) -> int:
        """What the link takes in a fraction of a second."""
        return self._window.message_bytes

    def drain(self) -> None:
        """Wait for the last acknowledgement."""
        self._window.wait_empty()

    def begin_compare(self) -> None:
        """Have the destination tag its memory; what goes wrong shows in the first comparison."""
        request = pb.CompareDigestsRequest(migration_id=self._migration_id, host_id=self._host_id)
        # Kept: a call without references is cancelled.
        self._tagging = self._stub.CompareDigests.future(
            request, timeout=COMPARE_S, metadata=self._metadata()
        )

    def differing(self, level: int, nodes: Sequence[int], tags: Tags) -> list[int]:
        """Compare part of the proof."""
        request = pb.CompareDigestsRequest(
            migration_id=self._migration_id,
            host_id=self._host_id,
            level=level,
            nodes=nodes,
            tags=tags.tobytes(),
        )
        return list(self._ask(self._stub.CompareDigests, request, COMPARE_S).differing)

    def commit(self, handover: Handover) -> None:
        """Hand the guest over."""
        self._window.end()
        request = pb.CommitRequest(
            migration_id=self._migration_id,
            guest_state=handover.state,
            start=handover.start,
            memory_tag=handover.memory_tag,
            state_tag=handover.state_tag,
            host_id=self._host_id,
        )
        try:
            reply = self._stub.Commit(request, timeout=handover.answer_s, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self._refusal(error) from error
        if reply.host_id != self._host_id:
            raise OutcomeUnknown(
                f"commit was sent to {self._address} and answered by another host than the one "
                "where the migration was prepared"
            )
        if not reply.HasField("guest"):
            raise OutcomeUnknown(
                f"commit was sent to {self._address} and answered without a guest, which says "
                "neither yes nor no"
            )

    def is_committed(self) -> bool:
        """Ask how the migration stands there."""
        request = pb.IncomingRequest(migration_id=self._migration_id, host_id=self._host_id)
        try:
            with self._afresh() as stub:
                status = stub.GetIncoming(request, timeout=ASK_S, metadata=self._metadata())
        except NotFound:
            return False
        self._check_same(status.host_id)
        return status.state == pb.INCOMING_STATE_COMMITTED

    def abort(self, reason: str) -> None:
        """Have the destination drop the migration."""
        request = pb.AbortRequest(
            migration_id=self._migration_id, reason=reason, host_id=self._host_id
        )
        try:
            with self._afresh() as stub:
                reply = stub.Abort(request, timeout=ASK_S, metadata=self._metadata())
        except NotFound:
            return
        self._check_same(reply.host_id)

    @contextmanager
    def _afresh(self) -> Iterator[destination_pb2_grpc.DestinationHostStub]:
        """A connection for one question: one in doubt may outlast the first one's certificates."""
        with connect(self._address, self._security, CHANNEL_OPTIONS_OF_A_STREAM) as channel:
            try:
                yield destination_pb2_grpc.DestinationHostStub(clean_replies(channel))
            except grpc.RpcError as error:
                raise self._answer(error) from error

    def interrupt(self) -> None:
        """Wake all that wait; from any thread."""
        with self._lock:
            self._interrupted = True
            pending = self._pending
        self._window.fail(_cancelled())
        if pending is not None:
            pending.cancel()

    def close(self) -> None:
        """End the stream and the connection."""
        self._closed.set()
        if self._stream is not None:
            # Broken off, where the commit has not ended it: a destination that could not be told
            # to abort knows by that, that nothing more will come of this migration.
            self._stream.cancel()
        self._window.end()
        self._channel.close()
        if self._reader is not None:
            self._reader.join()

    def _check(self, reply: pb.PrepareReply) -> None:
        """A limit above what we send is no fault; one that no frame fits is."""
        if reply.max_payload_bytes < FRAME_BYTES:
            raise ContractBroken(
                f"{self.peer} takes {reply.max_payload_bytes} bytes in one batch, less than a "
                f"frame of {FRAME_BYTES}; look into that host"
            )
        if reply.next_sequence:
            raise ContractBroken(
                f"{self.peer} wants to go on with batch {reply.next_sequence} of a migration "
                "that begins now; look into that host"
            )

    def _open_stream(self) -> None:
        replies = page_stream(self._channel)(self._outgoing(), metadata=self._metadata())
        self._stream = replies
        reader = Thread(target=self._read, args=(replies,), name="acknowledgements", daemon=True)
        reader.start()
        self._reader = reader
        Thread(target=self._look_after, name="progress", daemon=True).start()

    def _outgoing(self) -> Iterator[bytes]:
        yield encode_hello(self._migration_id, host_id=self._host_id)
        yield from self._window.messages()

    def _read(self, replies: Iterator[pb.TransferReply]) -> None:
        """Take acknowledgements until the stream ends, however it does."""
        try:
            for reply in replies:
                self._take(reply)
        except grpc.RpcError as error:
            self._window.fail(self._error(error))
        else:
            self._window.fail(HostUnreachable(f"the host at {self._address} ended the stream"))

    def _look_after(self) -> None:
        """Ask what came of messages without an acknowledgement, so that slow is not taken for dead.

        On a connection of its own: on the stream's it would wait behind those messages.
        """
        request = pb.IncomingRequest(migration_id=self._migration_id, host_id=self._host_id)
        while not self._closed.wait(self._ask_every_s):
            if self._window.silent_s < self._ask_every_s:
                continue
            with suppress(PageferryError), self._afresh() as stub:
                status = stub.GetIncoming(
                    request, timeout=ANSWER_PROGRESS_S, metadata=self._metadata()
                )
                self._window.progressed(status.received_bytes)

    def _take(self, reply: pb.TransferReply) -> None:
        kind = reply.WhichOneof("message")
        if kind == "ack":
            self._window.acknowledge(reply.ack.sequence)
        elif kind == "page_request":
            self._window.fail(
                ContractBroken(
                    f"{self.peer} asks for a page, and none was left behind; look into that host"
                )
            )

    def _ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Reply],
        request: _Request,
        timeout_s: float,
    ) -> _Reply:
        """A call that `interrupt` can end."""
        with self._lock:
            if self._interrupted:
                raise _cancelled()
            pending = method.future(
                request, timeout=_seconds(timeout_s, request), metadata=self._metadata()
            )
            self._pending = pending
        try:
            return pending.result()
        except grpc.RpcError as error:
            raise self._error(error) from error
        except grpc.FutureCancelledError:
            raise _cancelled() from None
        finally:
            self._pending = None

    def _remember_host(self, host_id: str) -> None:
        if not is_host_id(host_id):
            raise ContractMismatch(
                f"the host at {self._address} gives an identity that is none; "
                "run a pageferry of contract 1.2 there"
            )
        self._host_id = host_id

    def _check_same(self, host_id: str) -> None:
        """Whether an answer is of the host where the migration was prepared."""
        if host_id != self._host_id:
            raise WrongHost(
                f"another host answers at {self._address} than the one where the migration was "
                "prepared"
            )

    def _is_from_there(self, rpc_error: grpc.RpcError) -> bool:
        """Whether a refusal is of the host where the migration was prepared."""
        return (HOST_KEY, self._host_id) in _trailing(rpc_error)

    def _answer(self, rpc_error: grpc.RpcError) -> PageferryError:
        """What the host of the migration says; the word of any other is no answer."""
        error = self._error(rpc_error)
        if isinstance(error, HostUnreachable | WrongHost | Unauthenticated):
            return error
        if self._is_from_there(rpc_error):
            return error
        return HostUnreachable(
            f"the host that answers at {self._address} does not show that it is the host where the "
            f"migration was prepared: {error}"
        )

    def _error(self, rpc_error: grpc.RpcError) -> PageferryError:
        """What the destination says; an error that only this host can have is no answer at all."""
        error = error_from_rpc(rpc_error, self._address, self._security, answered=self._answered)
        if isinstance(error, _OF_THIS_HOST):
            return HostUnreachable(
                f"the host at {self._address} gave no answer to rely on, look into it: {error}"
            )
        return error

    def _refusal(self, rpc_error: grpc.RpcError) -> PageferryError:
        """What a failed commit means: only a destination that says no has refused it."""
        error = self._error(rpc_error)
        said_no = any(key == ERROR_KEY for key, _ in _trailing(rpc_error))
        there = self._is_from_there(rpc_error)
        if said_no and there and not isinstance(error, HostUnreachable | WrongHost):
            return error
        return OutcomeUnknown(f"commit was sent to {self._address} and no answer came: {error}")


def _seconds(work_s: float, request: Message) -> float:
    """A deadline: for the work over there, and for the request on its way."""
    return work_s + request.ByteSize() / SLOWEST_LINK_BYTES_PER_S


def _trailing(rpc_error: grpc.RpcError) -> list[tuple[str, str | bytes]]:
    if not isinstance(rpc_error, grpc.Call):
        return []
    return [(key, value) for key, value in rpc_error.trailing_metadata() or ()]


def _cancelled() -> MigrationCancelled:
    return MigrationCancelled("the migration was cancelled")
