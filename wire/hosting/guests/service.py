"""The calls about guests that both services have; how a guest stands, for the wire."""

from __future__ import annotations

import grpc

from pageferry.v1 import common_pb2
from paging_core.errors import BadOption
from wire.convert import guest_spec
from wire.hosting.guests.guests import Guests
from wire.hosting.guests.hosted import GuestView
from wire.hosting.guests.states import GuestState
from wire.trust.access import caller_of, check_digests

_MOST = 2**62
"""Of an amount to step by: more is a mistake."""


def guest_status(view: GuestView) -> common_pb2.GuestStatus:
    """How a guest stands."""
    return common_pb2.GuestStatus(
        guest_id=view.guest_id,
        state=guest_state(view.state),
        memory_bytes=view.memory_bytes,
        time_ns=view.time_ns,
        accesses=view.accesses,
        memory_digest=view.memory_digest,
        state_digest=view.state_digest,
        message=view.message,
        spec=guest_spec(view.guest_id, view.config),
        trace_xxh3_64=view.trace_digest,
    )


def guest_state(state: GuestState) -> common_pb2.GuestState.ValueType:
    """The contract's number for it."""
    return common_pb2.GuestState.Value("GUEST_STATE_" + state.name)


class GuestCalls:
    """What a service answers about the guests of its host; a part of each servicer."""

    def __init__(self, guests: Guests) -> None:
        """Answer about these."""
        self._guests = guests

    def StartGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Let a guest run."""
        self._guests.get(request.guest_id).start()
        return self._status(request)

    def PauseGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Let a guest stand still."""
        self._guests.get(request.guest_id).pause()
        return self._status(request)

    def StepGuest(
        self, request: common_pb2.StepGuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Run a paused guest by an exact amount."""
        amount = request.WhichOneof("amount")
        if amount is None or not 0 <= getattr(request, amount) < _MOST:
            raise BadOption("say by how much to step the guest: accesses or duration_ns")
        hosted = self._guests.get(request.guest_id)
        hosted.step(
            accesses=request.accesses,
            duration_ns=request.duration_ns,
            keep_going=lambda: context.is_active() and not self._guests.stopping.is_set(),
        )
        return guest_status(hosted.view(with_digest=request.with_digest))

    def GetGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """How a guest stands."""
        if request.with_digest:
            check_digests(caller_of(context))
        return self._status(request)

    def ListGuests(
        self, request: common_pb2.ListGuestsRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestList:
        """How all guests stand."""
        views = (hosted.view() for hosted in self._guests.all())
        return common_pb2.GuestList(guests=map(guest_status, views))

    def DeleteGuest(
        self, request: common_pb2.GuestRequest, context: grpc.ServicerContext
    ) -> common_pb2.GuestStatus:
        """Forget a guest."""
        return guest_status(self._guests.delete(request.guest_id))

    def _status(self, request: common_pb2.GuestRequest) -> common_pb2.GuestStatus:
        hosted = self._guests.get(request.guest_id)
        return guest_status(hosted.view(with_digest=request.with_digest))
