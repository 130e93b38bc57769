"""`DestinationHost` of the contract: messages in, calls of the receiver, messages out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import grpc

from dest_host.incoming import Handover, Offer
from dest_host.incoming import Incoming as Arriving
from dest_host.receiver import Receiver
from dest_host.states import IncomingState
from pageferry.v1 import destination_pb2, destination_pb2_grpc
from paging_core.errors import (
    BadOption,
    InvariantViolation,
    PermissionDenied,
    StreamError,
    WrongHost,
)
from paging_core.migration_key import MigrationKey
from wire.codec import TRANSFER, Incoming, RawBatch, decode_transfer
from wire.convert import guest_config
from wire.hosting.guests.service import GuestCalls, guest_status
from wire.identity import HOST_ID_CHARS
from wire.names import GUEST_CHARS, MIGRATION_CHARS, check_name
from wire.text import line
from wire.trust.access import Role, caller_of
from wire.version import check_version, contract_message

SERVICE = destination_pb2.DESCRIPTOR.services_by_name["DestinationHost"].full_name
"""Its name for health checks and reflection."""

RULES = {
    **dict.fromkeys(
        ("Prepare", "Transfer", "CompareDigests", "Commit", "Abort", "GetIncoming"),
        frozenset({Role.SOURCE}),
    ),
    **dict.fromkeys(("GetGuest", "ListGuests"), frozenset({Role.OPERATOR, Role.VIEWER})),
}
"""Whose certificates may call what."""
CONTROL = frozenset({Role.OPERATOR})
"""Who may call the rest."""

ACK_BATCHES = 2
"""Batches between two acknowledgements; the last of a round is acknowledged at once."""
ACK_S = 0.2
"""One that comes so long after the last acknowledgement has its own: on a slow link all have."""

_REASON_CHARS = 500
"""Of a source's reason to abort, which is remembered."""
_NO_REASON = "the source gave no reason"

_INCOMING_STATES = {
    IncomingState.PREPARED: destination_pb2.INCOMING_STATE_PREPARED,
    IncomingState.RECEIVING: destination_pb2.INCOMING_STATE_RECEIVING,
    IncomingState.VERIFIED: destination_pb2.INCOMING_STATE_VERIFIED,
    IncomingState.COMMITTED: destination_pb2.INCOMING_STATE_COMMITTED,
    IncomingState.ABORTED: destination_pb2.INCOMING_STATE_ABORTED,
}
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class DestinationService(GuestCalls, destination_pb2_grpc.DestinationHostServicer):
    """Thin over a `Receiver`; what it raises becomes a status in `wire.hosting.guard`."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(receiver.guests)
        self._receiver = receiver

    def Prepare(
        self, request: destination_pb2.PrepareRequest, context: grpc.ServicerContext
    ) -> destination_pb2.PrepareReply:
        check_version(request.version)
        if request.streams > 1:
            raise BadOption(f"this host takes one stream, not {request.streams}; prepare for one")
        offer = Offer(
            migration_id=check_name(request.migration_id, "migration_id", MIGRATION_CHARS),
            guest_id=check_name(request.guest.guest_id, "guest_id", GUEST_CHARS),
            config=guest_config(request.guest),
            key=MigrationKey(request.proof_key),
            trace_digest=request.trace_digest,
            owner=caller_of(context).name,
        )
        return destination_pb2.PrepareReply(
            version=contract_message(),
            next_sequence=self._receiver.prepare(offer),
            max_payload_bytes=self._receiver.limits.max_payload_bytes,
            host_id=self._receiver.host_id,
        )

    def Transfer(
        self,
        request_iterator: Iterator[destination_pb2.TransferMessage],
        context: grpc.ServicerContext,
    ) -> Iterator[destination_pb2.TransferReply]:
        messages = cast("Iterator[Incoming]", request_iterator)  # see `PageStreamCodec`
        hello = _understood(next(messages, StreamError("a page stream begins with a hello")))
        if not isinstance(hello, destination_pb2.TransferHello):
            raise StreamError("a page stream begins with a hello and not with a batch")
        if hello.stream:
            raise BadOption(f"this host takes stream 0 alone, not {hello.stream}")
        self._check_meant(hello.host_id)
        self._check_owner(hello.migration_id, context)
        incoming, stream = self._receiver.attach(
            hello.migration_id, hello.first_sequence, context.peer()
        )
        ended = False
        try:
            yield from self._take_all(messages, incoming, stream)
            ended = context.is_active()
        finally:
            incoming.stream_ended(stream, broken=not ended)

    def CompareDigests(
        self, request: destination_pb2.CompareDigestsRequest, context: grpc.ServicerContext
    ) -> destination_pb2.CompareDigestsReply:
        self._check_meant(request.host_id)
        self._check_owner(request.migration_id, context)
        differing = self._receiver.compare(
            request.migration_id, request.level, request.nodes, request.tags
        )
        return destination_pb2.CompareDigestsReply(differing=differing)

    def Commit(
        self, request: destination_pb2.CommitRequest, context: grpc.ServicerContext
    ) -> destination_pb2.CommitReply:
        self._check_meant(request.host_id)
        self._check_owner(request.migration_id, context)
        handover = Handover(request.memory_tag, request.guest_state, request.state_tag)
        view = self._receiver.commit(request.migration_id, handover, start=request.start)
        try:
            return destination_pb2.CommitReply(
                guest=guest_status(view), host_id=self._receiver.host_id
            )
        except Exception as error:  # an error that is no refusal: the guest is here
            raise InvariantViolation(
                f"the guest was taken over and the answer could not be made ({error!r}); ask with "
                "GetIncoming"
            ) from error

    def Abort(
        self, request: destination_pb2.AbortRequest, context: grpc.ServicerContext
    ) -> destination_pb2.AbortReply:
        self._check_meant(request.host_id)
        migration_id = check_name(request.migration_id, "migration_id", MIGRATION_CHARS)
        self._check_owner(migration_id, context)
        reason = line(request.reason, _REASON_CHARS) or _NO_REASON
        self._receiver.abort(migration_id, reason, caller_of(context).name)
        return destination_pb2.AbortReply(host_id=self._receiver.host_id)

    def GetIncoming(
        self, request: destination_pb2.IncomingRequest, context: grpc.ServicerContext
    ) -> destination_pb2.IncomingStatus:
        self._check_meant(request.host_id)
        self._check_owner(request.migration_id, context)
        view = self._receiver.view(request.migration_id, caller_of(context).name)
        return destination_pb2.IncomingStatus(
            migration_id=view.migration_id,
            state=_INCOMING_STATES[view.state],
            next_sequence=view.next_sequence,
            received_frames=view.received_frames,
            message=view.message,
            received_bytes=view.received_bytes,
            host_id=self._receiver.host_id,
        )

    def _take_all(
        self, messages: Iterator[Incoming], incoming: Arriving, stream: int
    ) -> Iterator[destination_pb2.TransferReply]:
        acknowledged_s = -ACK_S
        for message in messages:
            raw = _understood(message)
            if not isinstance(raw, RawBatch):
                raise StreamError("a page stream has one hello, at its beginning")
            batch = self._receiver.take(incoming, raw, stream)
            now_s = time.monotonic()
            due = (batch.sequence + 1) % ACK_BATCHES == 0 or now_s - acknowledged_s >= ACK_S
            if batch.end_of_round or due:
                acknowledged_s = now_s
                yield _ack(batch.sequence)

    def _check_meant(self, host_id: str) -> None:
        """Refuse a call that was meant for another host: nothing is known here of its migration.

        Raises:
            WrongHost: so that this host's ignorance is not taken for that one's answer.
        """
        here = self._receiver.host_id
        if host_id and host_id != here:  # who got no answer to a Prepare can name none
            raise WrongHost(
                f"this is host {here}, and the migration was prepared at "
                f"{check_name(host_id, 'host_id', HOST_ID_CHARS)}: the address leads to another "
                "host now, or that one was started again and has lost its guests"
            )

    def _check_owner(self, migration_id: str, context: grpc.ServicerContext) -> None:
        """A source has no business with the migrations of another."""
        owner = self._receiver.owner(migration_id)
        caller = caller_of(context).name
        if owner is not None and owner != caller:
            raise PermissionDenied(
                f"migration {migration_id!r} was prepared by another source than {caller!r}; "
                "choose another migration id"
            )


class PageStreamCodec(grpc.ServerInterceptor):
    """Has the messages of the page stream decoded by `wire.codec`, without copying payloads."""

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Replace the deserializer of Transfer."""
        handler = continuation(handler_call_details)
        if handler is None or handler_call_details.method != TRANSFER:
            return handler
        behaviour: Any = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(
            behaviour,
            request_deserializer=cast("Any", decode_transfer),
            response_serializer=handler.response_serializer,
        )


def _understood(message: Incoming) -> destination_pb2.TransferHello | RawBatch:
    if isinstance(message, StreamError):
        raise message
    return message


def _ack(sequence: int) -> destination_pb2.TransferReply:
    return destination_pb2.TransferReply(ack=destination_pb2.BatchAck(sequence=sequence))
