"""Pages over gRPC: one bidirectional stream for batches, unary calls for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from pageferry.v1 import destination_pb2 as pb
from pageferry.v1 import destination_pb2_grpc
from paging_core.digest import Digests
from paging_core.errors import (
    GuestCrashed,
    HostUnreachable,
    InvariantViolation,
    MigrationCancelled,
    NotFound,
    OutcomeUnknown,
    PageferryError,
)
from source_host.in_flight import STALL_S, InFlight
from source_host.precopy.transport import Handover, Metadata, Offer
from wire.batch import Batch
from wire.channel import CHANNEL_OPTIONS, PING_BEHIND_PAGES_MS, connect
from wire.checksum import xxh3
from wire.codec import encode_batch, encode_hello, page_stream
from wire.convert import guest_spec
from wire.replies import clean_replies
from wire.status import ERROR_KEY, error_from_rpc
from wire.trust.security import THIS_MACHINE, Security
from wire.version import check_version, contract_message

PREPARE_S = 120.0
"""The destination touches all of the memory that it reserves."""
COMPARE_S = 120.0
"""The first comparison makes it digest all memory."""
COMMIT_S = 60.0
ASK_S = 5.0
"""Questions that need no work."""
ASK_PROGRESS_S = 5.0
"""Nothing was acknowledged for so long: ask how many bytes came, and again after as long."""
ANSWER_PROGRESS_S = 20.0
"""That question shares a slow link with the pages."""
SLOWEST_LINK_BYTES_PER_S = 1000
"""Deadlines of calls leave so much time for their messages: 8 kbit/s."""

CHANNEL_OPTIONS_OF_A_STREAM = (
    *(option for option in CHANNEL_OPTIONS if option[0] != "grpc.http2.ping_timeout_ms"),
    ("grpc.http2.ping_timeout_ms", PING_BEHIND_PAGES_MS),
    # Connections of its own, tried again at once: an in-doubt commit waits for the answer.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_OF_THIS_HOST = (GuestCrashed, InvariantViolation, MigrationCancelled, OutcomeUnknown)
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
        self._ask_every_s = min(ASK_PROGRESS_S, stall_s / 4)
        self._window = InFlight(on_ack=on_ack, stall_s=stall_s)
        self._metadata = metadata
        self._reader: Thread | None = None
        self._closed = Event()
        self._lock = Lock()
        self._answered = False
        self._interrupted = False
        self._pending: grpc.Future[Any] | None = None

    def prepare(self, offer: Offer) -> int:
        """Reserve memory at the destination and open the stream."""
        self._migration_id = offer.migration_id
        reply = self._ask(
            self._stub.Prepare,
            pb.PrepareRequest(
                version=contract_message(),
                migration_id=offer.migration_id,
                guest=guest_spec(offer.guest_id, offer.config),
                trace_digest=offer.trace_digest,
                streams=1,
            ),
            PREPARE_S,
        )
        self._answered = True
        check_version(reply.version)
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

    def differing(self, level: int, first: int, digests: Digests) -> list[int]:
        """Compare part of the digest tree."""
        request = pb.CompareDigestsRequest(
            migration_id=self._migration_id, level=level, first=first, digests=digests.tolist()
        )
        return list(self._ask(self._stub.CompareDigests, request, COMPARE_S).differing)

    def commit(self, handover: Handover) -> None:
        """Hand the guest over."""
        self._window.end()
        request = pb.CommitRequest(
            migration_id=self._migration_id,
            memory_digest=handover.memory_digest,
            guest_state=handover.state,
            state_digest=xxh3(handover.state),
            start=handover.start,
        )
        try:
            self._stub.Commit(
                request, timeout=_seconds(COMMIT_S, request), metadata=self._metadata()
            )
        except grpc.RpcError as error:
            raise self._refusal(error) from error

    def is_committed(self) -> bool:
        """Ask how the migration stands there."""
        request = pb.IncomingRequest(migration_id=self._migration_id)
        try:
            with self._afresh() as stub:
                status = stub.GetIncoming(request, timeout=ASK_S, metadata=self._metadata())
        except NotFound:
            return False
        return status.state == pb.INCOMING_STATE_COMMITTED

    def abort(self, reason: str) -> None:
        """Have the destination drop the migration."""
        request = pb.AbortRequest(migration_id=self._migration_id, reason=reason)
        try:
            with self._afresh() as stub:
                stub.Abort(request, timeout=ASK_S, metadata=self._metadata())
        except NotFound:
            return

    @contextmanager
    def _afresh(self) -> Iterator[destination_pb2_grpc.DestinationHostStub]:
        """A connection for one question; a doubt may outlive the certificates of the first one."""
        with connect(self._address, self._security, CHANNEL_OPTIONS_OF_A_STREAM) as channel:
            try:
                yield destination_pb2_grpc.DestinationHostStub(clean_replies(channel))
            except grpc.RpcError as error:
                raise self._error(error) from error

    def interrupt(self) -> None:
        """Wake whoever waits; from any thread."""
        with self._lock:
            self._interrupted = True
            pending = self._pending
        self._window.fail(_cancelled())
        if pending is not None:
            pending.cancel()

    def close(self) -> None:
        """End the stream and the connection."""
        self._closed.set()
        self._window.end()
        self._channel.close()
        if self._reader is not None:
            self._reader.join()

    def _open_stream(self) -> None:
        replies = page_stream(self._channel)(self._outgoing(), metadata=self._metadata())
        reader = Thread(target=self._read, args=(replies,), name="acknowledgements", daemon=True)
        reader.start()
        self._reader = reader
        Thread(target=self._look_after, name="progress", daemon=True).start()

    def _outgoing(self) -> Iterator[bytes]:
        yield encode_hello(self._migration_id)
        yield from self._window.messages()

    def _read(self, replies: Iterator[pb.TransferReply]) -> None:
        """Take acknowledgements until the stream ends, however it does."""
        try:
            for reply in replies:
                if reply.WhichOneof("message") == "ack":
                    self._window.acknowledge(reply.ack.sequence)
        except grpc.RpcError as error:
            self._window.fail(self._error(error))
        else:
            self._window.fail(HostUnreachable(f"the host at {self._address} ended the stream"))

    def _look_after(self) -> None:
        """Ask what came of messages that nobody acknowledges, so that slow is not taken for dead.

        On a connection of its own: on the stream's it would wait behind those messages.
        """
        request = pb.IncomingRequest(migration_id=self._migration_id)
        while not self._closed.wait(self._ask_every_s):
            if self._window.silent_s < self._ask_every_s:
                continue
            with suppress(PageferryError), self._afresh() as stub:
                status = stub.GetIncoming(
                    request, timeout=ANSWER_PROGRESS_S, metadata=self._metadata()
                )
                self._window.progressed(status.received_bytes)

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
        said_no = isinstance(rpc_error, grpc.Call) and any(
            key == ERROR_KEY for key, _ in rpc_error.trailing_metadata() or ()
        )
        if said_no and not isinstance(error, HostUnreachable):
            return error
        return OutcomeUnknown(f"commit was sent to {self._address} and no answer came: {error}")


def _seconds(work_s: float, request: Message) -> float:
    """A deadline: for the work over there, and for the request on its way."""
    return work_s + request.ByteSize() / SLOWEST_LINK_BYTES_PER_S


def _cancelled() -> MigrationCancelled:
    return MigrationCancelled("somebody cancelled the migration")
