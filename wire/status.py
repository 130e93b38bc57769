"""Errors of `paging_core.errors` as gRPC statuses, and back into the same class.

The status code and its one-line message serve any client; the trailing metadata carries
the name of the class (and the frames of a failed verification), so that a pageferry
client raises exactly what the host raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc

from paging_core import errors
from paging_core.errors import PageferryError, VerificationFailed
from paging_core.exhaustion import ran_out_as_told
from wire.text import line
from wire.trust.security import THIS_MACHINE, Security

ERROR_KEY = "pageferry-error"
"""Trailing metadata: the name of the error's class."""
GFNS_KEY = "pageferry-gfns"
"""Trailing metadata: gfns that differ, decimal, separated by commas."""

MAX_GFNS = 64
"""Trailing metadata is small by design; the message and the first frames are enough."""
_A_GFN = re.compile(r"(?<![^,])[0-9]{1,18}(?![^,])")
"""Whatever else a peer writes there is passed over: the error itself is what matters."""

_LEAVES: dict[str, type[PageferryError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PageferryError)
}


def abort_with(context: grpc.ServicerContext, error: PageferryError) -> NoReturn:
    """End an RPC with the status, message and metadata of `error`.

    What the method has set as trailing metadata before, such as who answers, goes along.
    """
    metadata = [*(context.trailing_metadata() or ()), (ERROR_KEY, type(error).__name__)]
    if isinstance(error, VerificationFailed):
        metadata.append((GFNS_KEY, ",".join(map(str, error.gfns[:MAX_GFNS]))))
    context.set_trailing_metadata(tuple(metadata))
    context.abort(grpc.StatusCode[error.grpc_status], line(str(error)))


def error_from_rpc(
    rpc_error: grpc.RpcError,
    address: str,
    security: Security = THIS_MACHINE,
    *,
    answered: bool = False,
) -> PageferryError:
    """The error that the host at `address` raised, or the one that says it is not there.

    What the host says about it is cleaned: see `wire.text`.

    Args:
        rpc_error: of a call.
        address: of the host.
        security: that the channel was made with.
        answered: the host answered a call before, so its address is not what is wrong.
    """
    code, said = _outcome(rpc_error)
    details = line(said)
    if code is grpc.StatusCode.UNAVAILABLE:
        reason = security.explain(address)
        if reason is not None:
            return reason
    metadata = _metadata(rpc_error)
    leaf = _LEAVES.get(metadata.get(ERROR_KEY, ""))
    if leaf is VerificationFailed:
        gfns = _A_GFN.findall(metadata.get(GFNS_KEY, ""))
        return VerificationFailed(details, tuple(map(int, gfns[:MAX_GFNS])))
    if leaf is not None:
        return leaf(details)
    return _foreign(code, details, address, answered=answered)


_FOREIGN: dict[grpc.StatusCode, tuple[type[PageferryError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        errors.HostUnreachable,
        "no host answers at {address} ({details}); start one there or correct the address",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        errors.HostUnreachable,
        "the host at {address} did not answer in time; see whether it is overloaded or stuck",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        errors.ContractMismatch,
        "{address} does not serve this call ({details}): a host of the other kind, or an older one",
    ),
    grpc.StatusCode.CANCELLED: (
        errors.MigrationCancelled,
        "the call to {address} was cancelled",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors.LimitExceeded,
        "the host at {address} refuses: {details}",
    ),
    grpc.StatusCode.INTERNAL: (
        errors.InvariantViolation,
        "the host at {address} failed: {details}",
    ),
}
"""Statuses that no pageferry host raised: gRPC itself did, or another program."""


_GONE = (
    "the host at {address} answered before and does not any more ({details}); see whether it or "
    "the network between ended, and start it again"
)


def _foreign(
    code: grpc.StatusCode, details: str, address: str, *, answered: bool
) -> PageferryError:
    # A connection is made here: without a socket for it no host was asked.
    here = ran_out_as_told(details) if code is grpc.StatusCode.UNAVAILABLE else None
    if here is not None:
        return here
    unknown = (PageferryError, f"the host at {{address}} answered {code.name}: {{details}}")
    kind, text = _FOREIGN.get(code, unknown)
    if answered and code is grpc.StatusCode.UNAVAILABLE:
        text = _GONE
    return kind(text.format(address=address, details=details))


def _outcome(rpc_error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    if isinstance(rpc_error, grpc.Call):
        return rpc_error.code() or grpc.StatusCode.UNKNOWN, rpc_error.details() or "no details"
    return grpc.StatusCode.UNKNOWN, str(rpc_error)


def _metadata(rpc_error: grpc.RpcError) -> dict[str, str]:
    if not isinstance(rpc_error, grpc.Call):
        return {}
    pairs = rpc_error.trailing_metadata() or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


@contextmanager
def rpc_errors(
    address: str, security: Security = THIS_MACHINE, *, answered: bool = False
) -> Iterator[None]:
    """Turn the RPC errors of calls to `address` into pageferry's own.

    Args:
        address: of the host.
        security: that the channel was made with.
        answered: see `error_from_rpc`.

    Raises:
        PageferryError: the leaf that the other host raised.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise error_from_rpc(error, address, security, answered=answered) from error
