"""The guests of a host that runs already, whichever of the two kinds it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pageferry.v1 import common_pb2, destination_pb2_grpc, source_pb2_grpc
from paging_core.errors import BadOption
from wire.channel import connect
from wire.replies import clean_replies
from wire.status import rpc_errors
from wire.trust.security import THIS_MACHINE, Security

_STUBS = {
    "pageferry.v1.SourceHost": source_pb2_grpc.SourceHostStub,
    "pageferry.v1.DestinationHost": destination_pb2_grpc.DestinationHostStub,
}
"""Both services have the same calls for the guests that they hold."""
_TIMEOUT_S = 60


class Action(StrEnum):
    """What can be done to a guest that is not being migrated."""

    START = "start"
    PAUSE = "pause"
    DELETE = "delete"


class GuestClient:
    """One host's guests. Also a context manager.

    Every call raises the `PageferryError` that the host raised, or `HostUnreachable`. Text in its
    replies can be printed: see `wire.text`.
    """

    def __init__(self, address: str, security: Security = THIS_MACHINE) -> None:
        """Nothing is sent yet.

        Raises:
            BadOption: not an address, or plain text to another machine.
        """
        self._address = address
        self._security = security
        self._channel = connect(address, security)
        self._found: Any = None

    def guests(self) -> list[common_pb2.GuestStatus]:
        """All that it holds, and those that moved away and were not deleted since."""
        with self._stub() as stub:
            reply = stub.ListGuests(common_pb2.ListGuestsRequest(), timeout=_TIMEOUT_S)
            return list(reply.guests)

    def act(self, action: Action, guest_id: str) -> None:
        """Start a guest, pause it, or delete it with its memory."""
        request = common_pb2.GuestRequest(guest_id=guest_id)
        with self._stub() as stub:
            call = {
                Action.START: stub.StartGuest,
                Action.PAUSE: stub.PauseGuest,
                Action.DELETE: stub.DeleteGuest,
            }[action]
            call(request, timeout=_TIMEOUT_S)

    @contextmanager
    def _stub(self) -> Iterator[Any]:
        with rpc_errors(self._address, self._security, answered=self._found is not None):
            if self._found is None:
                self._found = self._find()
            yield self._found

    def _find(self) -> Any:
        """The stub of the service that it offers, as its health check says."""
        health: Any = health_pb2_grpc.HealthStub(self._channel)
        for service, stub in _STUBS.items():
            try:
                health.Check(health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                    continue
                raise
            return stub(clean_replies(self._channel))
        raise BadOption(f"{self._address} is neither a source host nor a destination host")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()
