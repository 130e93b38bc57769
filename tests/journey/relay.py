"""A destination's stand-in on the wire: passes every call on, and meddles where it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc

from pageferry.v1.destination_pb2 import PageBatch, TransferMessage
from wire.channel import CHANNEL_OPTIONS, connect, server_options

_SERVICE = "/pageferry.v1.DestinationHost/"
_CALL_S = 60

Meddle = Callable[[bytes], bytes]


_OPTIONS = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
"""As a source: what a test asks the destination by itself is no sign of life of the source."""


class Cut(Exception):
    """The line is cut: raised by a hook, it leaves as UNAVAILABLE."""


def cut(_message: bytes) -> NoReturn:
    """A hook that cuts the line."""
    raise Cut


class Hold:
    """A place where a message waits until it is let go."""

    def __init__(self) -> None:
        self.reached = Event()
        self._let_go = Event()

    def __call__(self, message: bytes) -> bytes:
        """Hold a request or a reply."""
        self._wait()
        return message

    def in_round(self, number: int) -> Callable[[PageBatch], None]:
        """Hold the batches of that round."""
        return lambda batch: self._wait() if batch.round == number else None

    def _wait(self) -> None:
        self.reached.set()
        self._let_go.wait(_CALL_S)

    def let_go(self) -> None:
        self._let_go.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.let_go()


class Relay(grpc.GenericRpcHandler):
    """Serves on an address of its own. Also a context manager.

    Attributes:
        address: give it to a source host as the destination.
        target: where the real destination is; may change while it serves.
        before: by method, changes a request (or raises `Cut`) before it is passed on.
        after: by method, changes a reply likewise.
        on_batch: told of every batch on its way, and may change it.
        seen: methods in the order of their calls.
    """

    def __init__(self, target: str) -> None:
        self.before: dict[str, Meddle] = {}
        self.after: dict[str, Meddle] = {}
        self.on_batch: Callable[[PageBatch], object] = lambda _batch: None
        self.seen: list[str] = []
        self._channel = connect(target, options=_OPTIONS)
        self._threads = ThreadPoolExecutor(16, "relay")
        self._server = grpc.server(self._threads, [self], options=server_options())
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def aim(self, target: str) -> None:
        """Pass calls on to another host from now on."""
        self._channel.close()
        self._channel = connect(target, options=_OPTIONS)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, messages left as the bytes that came."""
        if not details.method.startswith(_SERVICE):
            return None
        name = details.method.removeprefix(_SERVICE)
        self.seen.append(name)
        if name == "Transfer":
            return grpc.stream_stream_rpc_method_handler(self._transfer)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            return self._call(name, request, context)

        return grpc.unary_unary_rpc_method_handler(call)

    def _call(self, name: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            request = self.before.get(name, _same)(request)
            ask = self._channel.unary_unary(_SERVICE + name, _same, _same)
            return self.after.get(name, _same)(ask(request, timeout=_CALL_S))
        except Cut:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the line was cut")
        except grpc.RpcError as error:
            _pass_on(error, context)

    def _transfer(
        self, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        def meddled() -> Iterator[bytes]:
            for message in messages:
                yield self._meddle(message)

        call = self._channel.stream_stream(_SERVICE + "Transfer", _same, _same)(meddled())
        context.add_callback(lambda: _cancel(call))
        try:
            yield from call
        except grpc.RpcError as error:
            _pass_on(error, context)

    def _meddle(self, data: bytes) -> bytes:
        message = TransferMessage.FromString(data)
        if not message.HasField("batch"):
            return data
        self.on_batch(message.batch)
        return message.SerializeToString()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop(None).wait()
        self._channel.close()
        self._threads.shutdown()


def _same(message: bytes) -> bytes:
    return message


def _pass_on(error: grpc.RpcError, context: grpc.ServicerContext) -> NoReturn:
    assert isinstance(error, grpc.Call)
    context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
    context.abort(error.code() or grpc.StatusCode.UNKNOWN, error.details() or "")


def _cancel(call: grpc.Call) -> None:
    call.cancel()
