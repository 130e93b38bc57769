"""The limit: a gRPC stream of the same bytes that does nothing else with them.

Messages of 1 MiB with one bytes field, the synchronous stub, the channel options and the
allocator settings of the page stream. The sender's messages are cut before the clock
starts; the receiver takes each one's bytes and drops them.

    python -m bench._bare_stream    serves, and prints its address
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.wrappers_pb2 import BytesValue, UInt64Value

from wire.channel import connect, server_options, tune_malloc

_METHOD = "/bare.Stream/Send"


def _receive(messages: Iterator[BytesValue], _context: grpc.ServicerContext) -> UInt64Value:
    return UInt64Value(value=sum(len(message.value) for message in messages))


def serve() -> None:
    tune_malloc()
    server = grpc.server(ThreadPoolExecutor(4), options=server_options())
    handler = grpc.stream_unary_rpc_method_handler(
        _receive, BytesValue.FromString, UInt64Value.SerializeToString
    )
    methods = {"Send": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Stream", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()  # until who started us lets go
    server.stop(0).wait()


def send(address: str, parts: Iterable[bytes]) -> float:
    """Seconds that the stream takes, from its first byte to the answer after its last."""
    with connect(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        call = channel.stream_unary(_METHOD, BytesValue.SerializeToString, UInt64Value.FromString)
        started = time.perf_counter()
        received = call(BytesValue(value=part) for part in parts)
        seconds = time.perf_counter() - started
    if received.value != sum(map(len, parts)):
        sys.exit(f"the bare stream lost bytes: {received.value} arrived")
    return seconds


if __name__ == "__main__":
    serve()
