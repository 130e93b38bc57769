"""Before every call of ours: who may make it, and how errors leave it (see `wire.status`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog

from paging_core.errors import InvariantViolation, PageferryError
from wire.access import Access, caller_of
from wire.status import abort_with

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Handler: TypeAlias = "grpc.RpcMethodHandler[_Request, _Response]"

_OURS = "/pageferry."
_log = structlog.get_logger("wire.guard")


class Guard(grpc.ServerInterceptor):
    """Stands before pageferry's own services.

    Refuses whoever may not call, and maps every error; an unexpected one is logged, INTERNAL.
    """

    def __init__(self, access: Access | None = None) -> None:
        """Everybody may call everything when there are no rules."""
        self._access = access

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Wrap the handler of a call to one of our services."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OURS):
            return handler
        return _guarded(handler, method, self._access)


@contextmanager
def _mapped(context: grpc.ServicerContext, method: str, access: Access | None) -> Iterator[None]:
    try:
        if access is not None:
            access.check(method, caller_of(context))
        yield
    except PageferryError as error:
        _log.info("refused", method=method, error=type(error).__name__, message=str(error))
        abort_with(context, error)
    except grpc.RpcError:
        raise  # the client went away while we read its stream
    except Exception as error:  # noqa: BLE001 - the last guard before the network
        _log.exception("failed", method=method)
        text = f"{method} failed inside the host ({type(error).__name__}: {error}); see its log"
        abort_with(context, InvariantViolation(text))


def _guarded(
    handler: _Handler[_Request, _Response], method: str, access: Access | None
) -> _Handler[_Request, _Response]:
    inner: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )

    def one(request: Any, context: grpc.ServicerContext) -> Any:
        with _mapped(context, method, access):
            return inner(request, context)

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with _mapped(context, method, access):
            yield from inner(request, context)

    make, behaviour = {
        (False, False): (grpc.unary_unary_rpc_method_handler, one),
        (False, True): (grpc.unary_stream_rpc_method_handler, many),
        (True, False): (grpc.stream_unary_rpc_method_handler, one),
        (True, True): (grpc.stream_stream_rpc_method_handler, many),
    }[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
