"""Before every call: who may make it, whether a limit is reached, and how errors of ours leave it.

Nothing of a call is read until it was let in: who may do nothing here takes neither a thread for
longer than a moment, nor the memory of a long message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Semaphore
from typing import Any, NoReturn, TypeVar

import grpc
import structlog

from paging_core.errors import BadOption, InvariantViolation, LimitExceeded, PageferryError
from paging_core.exhaustion import ran_out
from wire.hosting.interception import OURS, around, before
from wire.hosting.silence import Silence
from wire.identity import HOST_KEY
from wire.status import abort_with
from wire.text import line
from wire.trust.access import Access, caller_of

_FOR_ANYBODY = 8
"""Calls at a time of each service that anybody may call: health and reflection."""
_SPARE = 8
"""Calls at a time that are being refused: each needs a thread for a moment."""
_HEALTH = "/grpc.health."
_HEALTH_IDLE_S = 5.0
"""The question of a health check comes with its call; who says nothing must not keep others out."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_log = structlog.get_logger("wire.hosting.guard")


class Guard(grpc.ServerInterceptor):
    """Lets calls in, ends silent ones, and maps every error of pageferry's own services.

    An unexpected error is logged, and INTERNAL; what the host ran out of meanwhile (file
    descriptors, memory, threads, a disk) is RESOURCE_EXHAUSTED and names it. Health checks and
    reflection, which anybody may call, have a few places of their own, so that neither they nor
    ours take all.

    Attributes:
        most_calls: that are here at a time, those that are being refused among them.
    """

    def __init__(
        self,
        access: Access | None = None,
        max_calls: int = 64,
        stream_idle_s: float = 300.0,
        host_id: str = "",
    ) -> None:
        """Guard a host; there are no calls yet.

        Args:
            access: who may call what of ours; all callers everything when None.
            max_calls: of ours at a time.
            stream_idle_s: a call on which nothing comes for so long is ended.
            host_id: who answers; every answer says so, a refusal above all. Empty says nothing.
        """
        self._access = access
        self._who = ((HOST_KEY, host_id),) if host_id else ()
        self._ours = _Limit(
            max_calls,
            stream_idle_s,
            f"all {max_calls} calls that this host serves at a time are taken; try again, or raise "
            "its --max-calls",
        )
        taken = f"{_FOR_ANYBODY} such calls are answered at a time; try again"
        self._health = _Limit(_FOR_ANYBODY, min(stream_idle_s, _HEALTH_IDLE_S), taken)
        self._others = _Limit(_FOR_ANYBODY, stream_idle_s, taken)
        self.most_calls = max_calls + 2 * _FOR_ANYBODY + _SPARE

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Wrap the handler of a call."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if method.startswith(OURS):
            handler = around(handler, lambda _request, context: _mapped(context, method))
        limit = self._limit_of(method)
        return before(
            handler,
            lambda context: self._let_in(context, method, limit),
            limit.silence.watched if handler.request_streaming else limit.only_message,
        )

    def end_silent(self) -> None:
        """End the calls on which nothing came for too long."""
        for limit in (self._ours, self._health, self._others):
            limit.silence.end()

    def _limit_of(self, method: str) -> _Limit:
        if method.startswith(OURS):
            return self._ours
        return self._health if method.startswith(_HEALTH) else self._others

    @contextmanager
    def _let_in(self, context: grpc.ServicerContext, method: str, limit: _Limit) -> Iterator[None]:
        if self._who and method.startswith(OURS):
            context.set_trailing_metadata(self._who)
        try:
            if self._access is not None and method.startswith(OURS):
                self._access.check(method, caller_of(context))
            limit.enter()
        except PageferryError as error:
            _refuse(context, method, error)
        try:
            yield
        finally:
            limit.leave()


class _Limit:
    """Calls that share a limit. Thread-safe."""

    def __init__(self, places: int, idle_s: float, full: str) -> None:
        self._free = Semaphore(places)
        self._full = full
        self.silence = Silence(idle_s)

    def enter(self) -> None:
        if not self._free.acquire(blocking=False):
            raise LimitExceeded(self._full)

    def leave(self) -> None:
        self._free.release()

    def only_message(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """The one message of a call; the host may then take its time to answer."""
        watched = self.silence.watched(messages, context)
        message = next(watched, None)
        watched.close()
        if message is None:
            abort_with(context, BadOption("this call takes one message, and none came"))
        return message


@contextmanager
def _mapped(context: grpc.ServicerContext, method: str) -> Iterator[None]:
    try:
        yield
    except PageferryError as error:
        _refuse(context, method, error)
    except grpc.RpcError:
        raise  # the client went away while we read its stream
    except Exception as error:  # noqa: BLE001 - the last guard before the network
        limit = ran_out(error)
        if limit is not None:
            _refuse(context, method, limit)
        _log.exception("failed", method=method)
        text = f"{method} failed inside the host ({type(error).__name__}: {error}); see its log"
        abort_with(context, InvariantViolation(text))


def _refuse(context: grpc.ServicerContext, method: str, error: PageferryError) -> NoReturn:
    _log.info("refused", method=method, error=type(error).__name__, message=line(str(error)))
    abort_with(context, error)
