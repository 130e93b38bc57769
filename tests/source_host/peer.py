"""A destination over real gRPC that answers what a test wants, whatever that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from dest_host.service import SERVICE
from pageferry.v1 import destination_pb2 as pb
from wire.channel import server_options
from wire.status import ERROR_KEY, GFNS_KEY
from wire.version import contract_message

ANSWERS: dict[str, tuple[type[Message], Message]] = {
    "Prepare": (
        pb.PrepareRequest,
        pb.PrepareReply(version=contract_message(), max_payload_bytes=1 << 20),
    ),
    "CompareDigests": (pb.CompareDigestsRequest, pb.CompareDigestsReply()),
    "Commit": (pb.CommitRequest, pb.CommitReply()),
    "Abort": (pb.AbortRequest, pb.AbortReply()),
    "GetIncoming": (pb.IncomingRequest, pb.IncomingStatus(state=pb.INCOMING_STATE_VERIFIED)),
}


class Peer:
    """Takes everything and keeps nothing.

    Attributes:
        address: where it serves.
        says: by method, the name of the error that it answers with.
        details: what it says with it.
        gfns: what it sends as the frames of a failed verification.
        calls: methods in the order of their calls.
    """

    def __init__(self) -> None:
        self.address = ""
        self.says: dict[str, str] = {}
        self.details = "so it says"
        self.gfns = ""
        self.calls: list[str] = []

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What gRPC serves."""
        stream = grpc.stream_stream_rpc_method_handler(
            self._transfer, pb.TransferMessage.FromString, pb.TransferReply.SerializeToString
        )
        return {"Transfer": stream} | {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(name, reply), request.FromString, type(reply).SerializeToString
            )
            for name, (request, reply) in ANSWERS.items()
        }

    def _answering(
        self, method: str, reply: Message
    ) -> Callable[[Message, grpc.ServicerContext], Message]:
        def answer(_request: Message, context: grpc.ServicerContext) -> Message:
            self._called(method, context)
            return reply

        return answer

    def _transfer(
        self, messages: Iterator[pb.TransferMessage], context: grpc.ServicerContext
    ) -> Iterator[pb.TransferReply]:
        for message in messages:
            if message.HasField("batch"):
                self._called("Transfer", context)
                yield pb.TransferReply(ack=pb.BatchAck(sequence=message.batch.sequence))

    def _called(self, method: str, context: grpc.ServicerContext) -> None:
        self.calls.append(method)
        if method in self.says:
            context.set_trailing_metadata(((ERROR_KEY, self.says[method]), (GFNS_KEY, self.gfns)))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self.details)


@contextmanager
def peer() -> Iterator[Peer]:
    """It, serving on an address of this machine."""
    served = Peer()
    server = grpc.server(ThreadPoolExecutor(4), options=server_options())
    handlers = grpc.method_handlers_generic_handler(SERVICE, served.handlers())
    server.add_generic_rpc_handlers((handlers,))
    served.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield served
    finally:
        server.stop(None).wait()
