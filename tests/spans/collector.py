"""A collector: what the hosts' exporters send over the wire, by the published protocol."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service


@dataclass(frozen=True)
class Sent:
    """A span as it arrived.

    Attributes:
        host: the `service.name` of the process that sent it.
    """

    host: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes


class Collector(service.TraceServiceServicer):
    """Listens on loopback."""

    def __init__(self) -> None:
        self.spans: list[Sent] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - its name
        """Take spans in."""
        del context
        for of_process in request.resource_spans:
            about = {each.key: each.value.string_value for each in of_process.resource.attributes}
            for scope in of_process.scope_spans:
                self.spans += [
                    Sent(about["service.name"], one.name, one.trace_id, one.span_id,
                         one.parent_span_id)
                    for one in scope.spans
                ]  # fmt: skip
        return messages.ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop(None)
