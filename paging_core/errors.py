"""Everything that can go wrong, as one tree.

    PageferryError
    ├── InvalidInput            a user or a peer asked for something that cannot be
    │   ├── BadOption           a value outside its domain (size, group, link, policy …)
    │   ├── UnknownWorkload     no generator of that name, or no such parameter
    │   ├── BadTrace            a trace that is truncated, of another version, or no trace
    │   └── BadCosts            a cost table with an unknown event or a negative figure
    ├── StreamError             the peer broke the contract of the page stream
    │   ├── BatchOutOfOrder     a sequence number that is not the next one
    │   ├── BatchCorrupt        a batch whose checksum does not match its content
    │   ├── FramesOutsideGuest  a run of frames beyond the end of guest memory
    │   └── PayloadSize         a payload that is not as long as it says
    ├── ContractMismatch        versions of the contract do not overlap
    ├── ContractBroken          the other host answers what the contract does not allow
    ├── LimitExceeded           a host refuses more than it was configured to allow, or than it has
    ├── GuestCrashed            the guest's own kernel gave up
    │   └── GuestOutOfMemory    it found no free frame
    ├── CannotTrack             this kernel, or a missing right, does not let writes be tracked
    ├── TrackingLost            tracking has ended by itself: what was written since is not known
    ├── Unauthenticated         the caller did not prove who it is
    ├── PermissionDenied        the caller is known and may not do this
    ├── NotFound                no guest or migration of that name
    ├── AlreadyExists           a guest or migration of that name is there
    ├── IllegalTransition       the state machine forbids this call now
    ├── HostUnreachable         the other host does not answer
    ├── WrongHost               another host answers than the one that was prepared at
    ├── HostStopping            this host stops and takes on nothing new
    ├── AddressInUse            the port to listen on is taken
    ├── VerificationFailed      source and destination memory differ
    ├── MigrationCancelled      it was cancelled
    ├── DowntimeExceeded        the guest had stood still for as long as it may
    ├── OutcomeUnknown          commit was sent and its answer never came
    └── InvariantViolation      a bug in pageferry itself

Every leaf carries the name of the one gRPC status that it becomes on the wire
(`grpc_status`); this module knows no network, `wire.status` does the mapping.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class PageferryError(Exception):
    """Root of the tree: its text is one line that says what was wrong and what to do."""

    grpc_status: ClassVar[str] = "UNKNOWN"


class InvalidInput(PageferryError):
    """A user or a peer asked for something that cannot be."""

    grpc_status = "INVALID_ARGUMENT"


class BadOption(InvalidInput):
    """A value outside its domain."""


class UnknownWorkload(InvalidInput):
    """No workload generator of that name, or no such parameter."""


class BadTrace(InvalidInput):
    """A trace that is truncated, of another version, or no trace at all."""


class BadCosts(InvalidInput):
    """A cost table that names an unknown event or holds a negative figure."""


class StreamError(PageferryError):
    """The peer broke the contract of the page stream."""

    grpc_status = "DATA_LOSS"


class BatchOutOfOrder(StreamError):
    """A batch whose sequence number is not the next one."""

    grpc_status = "FAILED_PRECONDITION"


class BatchCorrupt(StreamError):
    """A batch whose checksum does not match its content."""


class FramesOutsideGuest(StreamError):
    """A run of frames that reaches beyond the end of guest memory."""

    grpc_status = "OUT_OF_RANGE"


class PayloadSize(StreamError):
    """A payload that does not decompress to the size that it says."""

    grpc_status = "INVALID_ARGUMENT"


class ContractMismatch(PageferryError):
    """The two hosts have versions of the contract that do not overlap."""

    grpc_status = "FAILED_PRECONDITION"


class ContractBroken(PageferryError):
    """The other host answers what the contract does not allow: it is broken, or it lies."""

    grpc_status = "FAILED_PRECONDITION"


class LimitExceeded(PageferryError):
    """A host refuses more than it was configured to allow, or ran out of something."""

    grpc_status = "RESOURCE_EXHAUSTED"


class GuestCrashed(PageferryError):
    """The guest's own kernel gave up: what it found in its own memory could not be."""

    grpc_status = "FAILED_PRECONDITION"


class GuestOutOfMemory(GuestCrashed):
    """The guest's own kernel found no free frame."""

    grpc_status = "RESOURCE_EXHAUSTED"


class CannotTrack(PageferryError):
    """This kernel, or a right that is missing, does not let writes be tracked: says what to do."""

    grpc_status = "FAILED_PRECONDITION"


class TrackingLost(PageferryError):
    """Tracking has ended by itself: what was written since is not known."""

    grpc_status = "ABORTED"


class NotFound(PageferryError):
    """No guest or migration of that name."""

    grpc_status = "NOT_FOUND"


class AlreadyExists(PageferryError):
    """A guest or migration of that name is there already."""

    grpc_status = "ALREADY_EXISTS"


class IllegalTransition(PageferryError):
    """The state machine forbids this call now."""

    grpc_status = "FAILED_PRECONDITION"


class HostUnreachable(PageferryError):
    """The other host does not answer."""

    grpc_status = "UNAVAILABLE"


class WrongHost(PageferryError):
    """Another host answers than the one that was prepared at: it knows nothing of the guest."""

    grpc_status = "FAILED_PRECONDITION"


class HostStopping(PageferryError):
    """This host was told to stop: it takes on nothing new."""

    grpc_status = "UNAVAILABLE"


class AddressInUse(PageferryError):
    """The address to listen on is taken."""

    grpc_status = "UNAVAILABLE"


class VerificationFailed(PageferryError):
    """Source and destination memory differ.

    Attributes:
        gfns: the first frames that differ, ascending.
    """

    grpc_status = "DATA_LOSS"

    def __init__(self, message: str, gfns: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.gfns = gfns


class MigrationCancelled(PageferryError):
    """The migration was cancelled."""

    grpc_status = "CANCELLED"


class DowntimeExceeded(PageferryError):
    """The guest had stood still for as long as it may, and goes on at the source."""

    grpc_status = "DEADLINE_EXCEEDED"


class OutcomeUnknown(PageferryError):
    """Commit was sent and its answer never came: the guest stays paused until it is known."""

    grpc_status = "UNAVAILABLE"


class InvariantViolation(PageferryError):
    """A bug in pageferry itself."""

    grpc_status = "INTERNAL"


class Unauthenticated(PageferryError):
    """A peer showed no certificate, or one that is not trusted."""

    grpc_status = "UNAUTHENTICATED"


class PermissionDenied(PageferryError):
    """A peer is who it says and may not do this."""

    grpc_status = "PERMISSION_DENIED"


def forget_frames(error: _Error) -> _Error:
    """An error to keep, without the frames that it came through.

    Frames hold their variables: a guest with all of its memory, an open file, a call that holds
    the error itself. What is kept for longer than it is handled is kept without them.

    Args:
        error: loses its traceback and its causes; the causes lose their tracebacks, too.
    """
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None:
            left += [one.__cause__, one.__context__]
            one.__traceback__ = one.__cause__ = one.__context__ = None
    return error
