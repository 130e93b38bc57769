"""Something around every call of a handler, or before it, whatever kind of call it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import grpc

OURS = "/pageferry."
"""How the methods of our own services begin; others are health and reflection."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
Around = Callable[[Any, grpc.ServicerContext], AbstractContextManager[None]]
"""From a call's request (an iterator of them, for streams) and context to what is around it."""
Before = Callable[[grpc.ServicerContext], AbstractContextManager[None]]
"""From a call's context, before anything of its request was read, to what is around it."""
Read = Callable[[Iterator[Any], grpc.ServicerContext], Any]
"""From the messages of a call to what its handler is called with."""

_NON_BLOCKING = "experimental_non_blocking"
"""Of a handler that answers through a function, and needs no thread while it has nothing to say."""


def around(
    handler: grpc.RpcMethodHandler[_Request, _Response], enter: Around
) -> grpc.RpcMethodHandler[_Request, _Response]:
    """A handler like this one whose calls happen inside of `enter`."""
    inner = _behaviour(handler)

    def one(request: Any, context: grpc.ServicerContext) -> Any:
        with enter(request, context):
            return inner(request, context)

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with enter(request, context):
            yield from inner(request, context)

    behaviour = many if handler.response_streaming else one
    return _like(handler, behaviour, request_streaming=handler.request_streaming)


def before(
    handler: grpc.RpcMethodHandler[_Request, _Response], enter: Before, read: Read
) -> grpc.RpcMethodHandler[_Request, _Response]:
    """A handler like this one that reads nothing of a call until it is inside of `enter`.

    gRPC runs a handler of one message when that has come and was decoded. One of a stream runs
    at once and asks for messages, so this is one always; a client cannot tell.
    """
    inner = _behaviour(handler)

    def one(messages: Iterator[Any], context: grpc.ServicerContext, *answer: Any) -> Any:
        with enter(context):
            return inner(read(messages, context), context, *answer)

    def many(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        with enter(context):
            yield from inner(read(messages, context), context)

    if getattr(inner, _NON_BLOCKING, False):
        setattr(one, _NON_BLOCKING, True)
        return _like(handler, one, request_streaming=True)
    behaviour = many if handler.response_streaming else one
    return _like(handler, behaviour, request_streaming=True)


def _behaviour(handler: grpc.RpcMethodHandler[_Request, _Response]) -> Any:
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def _like(
    handler: grpc.RpcMethodHandler[_Request, _Response], behaviour: Any, *, request_streaming: bool
) -> grpc.RpcMethodHandler[_Request, _Response]:
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[request_streaming, handler.response_streaming]
    made: grpc.RpcMethodHandler[_Request, _Response] = make(
        behaviour, handler.request_deserializer, handler.response_serializer
    )
    return made
