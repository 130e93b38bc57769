"""Something around every call of a handler, whatever kind of call it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

import grpc

OURS = "/pageferry."
"""How the methods of our own services begin; health and reflection are left alone."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
Handler: TypeAlias = "grpc.RpcMethodHandler[_Request, _Response]"
Around = Callable[[Any, grpc.ServicerContext], AbstractContextManager[None]]
"""From a call's request (an iterator of them, for streams) and context to what is around it."""


def around(
    handler: grpc.RpcMethodHandler[_Request, _Response], enter: Around
) -> grpc.RpcMethodHandler[_Request, _Response]:
    """A handler like this one whose calls happen inside of `enter`."""
    inner: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )

    def one(request: Any, context: grpc.ServicerContext) -> Any:
        with enter(request, context):
            return inner(request, context)

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with enter(request, context):
            yield from inner(request, context)

    make, behaviour = {
        (False, False): (grpc.unary_unary_rpc_method_handler, one),
        (False, True): (grpc.unary_stream_rpc_method_handler, many),
        (True, False): (grpc.stream_unary_rpc_method_handler, one),
        (True, True): (grpc.stream_stream_rpc_method_handler, many),
    }[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
