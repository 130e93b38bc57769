"""Before every call of ours: who may make it, and how errors leave it (see `wire.status`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
import structlog

from paging_core.errors import InvariantViolation, PageferryError
from wire.hosting.interception import OURS, around
from wire.status import abort_with
from wire.trust.access import Access, caller_of

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_log = structlog.get_logger("wire.hosting.guard")


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
        if handler is None or not method.startswith(OURS):
            return handler
        return around(handler, lambda _request, context: _mapped(context, method, self._access))


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
