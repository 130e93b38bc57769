"""What a host raises is what its client raises, through real gRPC."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from structlog.testing import capture_logs

from paging_core import errors
from paging_core.errors import (
    BadOption,
    ContractMismatch,
    HostUnreachable,
    InvariantViolation,
    LimitExceeded,
    MigrationCancelled,
    PageferryError,
    VerificationFailed,
)
from wire.channel import CHANNEL_OPTIONS, connect, server_options
from wire.hosting.guard import Guard
from wire.status import ERROR_KEY, rpc_errors

SERVICE = "pageferry.test.Echo"

LEAVES = [
    leaf
    for leaf in vars(errors).values()
    if isinstance(leaf, type) and issubclass(leaf, PageferryError)
]


@contextmanager
def serving(behaviour: Callable[[str], str], service: str = SERVICE) -> Iterator[str]:
    """One answer in each of the four ways that gRPC has; yields the address."""

    def many(requests: Iterator[StringValue]) -> Iterator[StringValue]:
        for request in requests:
            yield StringValue(value=behaviour(request.value))

    handlers = {
        "OneOne": grpc.unary_unary_rpc_method_handler(
            lambda request, _: StringValue(value=behaviour(request.value)), *_codec()
        ),
        "OneMany": grpc.unary_stream_rpc_method_handler(
            lambda request, _: many(iter([request])), *_codec()
        ),
        "ManyOne": grpc.stream_unary_rpc_method_handler(
            lambda requests, _: list(many(requests))[-1], *_codec()
        ),
        "ManyMany": grpc.stream_stream_rpc_method_handler(
            lambda requests, _: many(requests), *_codec()
        ),
    }
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[Guard()], options=server_options())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _codec() -> tuple[Callable[[bytes], StringValue], Callable[[StringValue], bytes]]:
    return StringValue.FromString, StringValue.SerializeToString


WAYS = ["OneOne", "OneMany", "ManyOne", "ManyMany"]


def ask(address: str, way: str = "OneOne", text: str = "x", service: str = SERVICE) -> str:
    """Call in one of the four ways; returns the last answer."""
    request = StringValue(value=text)
    with connect(address) as channel:
        method = {
            "OneOne": channel.unary_unary,
            "OneMany": channel.unary_stream,
            "ManyOne": channel.stream_unary,
            "ManyMany": channel.stream_stream,
        }[way]
        call = method(f"/{service}/{way}", StringValue.SerializeToString, StringValue.FromString)
        argument = iter([request]) if way.startswith("Many") else request
        with rpc_errors(address):
            answer = call(argument, timeout=20)  # type: ignore[operator]
            return str((list(answer)[-1] if way.endswith("Many") else answer).value)


def raising(error: Exception) -> Callable[[str], str]:
    def behaviour(_text: str) -> str:
        raise error

    return behaviour


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_passes(way: str) -> None:
    with serving(lambda text: text + "!") as address:
        assert ask(address, way, "hello") == "hello!"


@pytest.mark.parametrize("way", WAYS)
def test_an_error_arrives_as_itself(way: str) -> None:
    with serving(raising(BadOption("a group of 3 frames; try 4"))) as address:
        with pytest.raises(BadOption) as caught:
            ask(address, way)
        assert str(caught.value) == "a group of 3 frames; try 4"


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_has_a_status_and_comes_back(leaf: type[PageferryError]) -> None:
    assert leaf.grpc_status in grpc.StatusCode.__members__
    with serving(raising(leaf("was ist das – 4 µs?"))) as address:
        with pytest.raises(leaf) as caught:
            ask(address)
        assert type(caught.value) is leaf
        assert str(caught.value) == "was ist das – 4 µs?"
        cause = caught.value.__cause__
        assert isinstance(cause, grpc.Call)
        assert cause.code() is grpc.StatusCode[leaf.grpc_status]


def test_a_failed_verification_names_its_frames() -> None:
    with serving(raising(VerificationFailed("they differ", (3, 2**40)))) as address:
        with pytest.raises(VerificationFailed) as caught:
            ask(address)
        assert caught.value.gfns == (3, 2**40)


def test_very_many_frames_still_fit_the_answer() -> None:
    with serving(raising(VerificationFailed("they differ", tuple(range(10**5))))) as address:
        with pytest.raises(VerificationFailed) as caught:
            ask(address)
        gfns = caught.value.gfns
        assert gfns == tuple(range(len(gfns)))
        assert len(gfns) >= 16


def test_an_unexpected_error_is_internal_and_logged() -> None:
    with (
        capture_logs() as logs,
        serving(raising(ZeroDivisionError("by zero"))) as address,
        pytest.raises(InvariantViolation, match="ZeroDivisionError: by zero"),
    ):
        ask(address)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["exc_info"]) == ("failed", True)


def test_other_services_keep_their_own_errors() -> None:
    with serving(raising(BadOption("no")), service="grpc.health.v1.Health") as address:
        with pytest.raises(PageferryError) as caught:
            ask(address, service="grpc.health.v1.Health")
        assert type(caught.value) is PageferryError
        cause = caught.value.__cause__
        assert isinstance(cause, grpc.Call)
        assert ERROR_KEY not in dict(cause.trailing_metadata() or ())


def test_no_host_there() -> None:
    with serving(str) as address:
        pass
    with pytest.raises(HostUnreachable, match=f"{address}.*start one"):
        ask(address)


def test_another_service_there() -> None:
    with serving(str) as address, pytest.raises(ContractMismatch, match=address):
        ask(address, service="pageferry.v9.Other")


def test_too_slow() -> None:
    with serving(raising(AssertionError())) as address, connect(address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/OneOne", StringValue.SerializeToString, StringValue.FromString
        )
        with pytest.raises(HostUnreachable, match="did not answer in time"), rpc_errors(address):
            call(StringValue(), timeout=0)


def test_cancelled_here() -> None:
    with serving(str) as address, connect(address) as channel:
        call = channel.stream_stream(
            f"/{SERVICE}/ManyMany", StringValue.SerializeToString, StringValue.FromString
        )
        answers = call(itertools.repeat(StringValue()))
        next(answers)
        answers.cancel()
        with pytest.raises(MigrationCancelled), rpc_errors(address):
            list(answers)


def test_a_message_longer_than_the_host_reads() -> None:
    unlimited = [(key, -1 if "length" in key else value) for key, value in CHANNEL_OPTIONS]
    with serving(str) as address, grpc.insecure_channel(address, options=unlimited) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/OneOne", StringValue.SerializeToString, StringValue.FromString
        )
        with pytest.raises(LimitExceeded, match=address), rpc_errors(address):
            call(StringValue(value="x" * (2**26 + 1)), timeout=20)
