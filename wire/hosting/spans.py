"""OpenTelemetry: spans of the calls that a host serves, and whose part they are.

Imported only where ``--otlp`` is given: it needs an extra, and is off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from paging_core.errors import PageferryError
from wire.hosting.interception import OURS, around
from wire.text import line

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_W3C = TraceContextTextMapPropagator()


def to_collector(endpoint: str, service: str) -> TracerProvider:
    """Spans go to an OTLP collector, in batches and from a thread of their own.

    Args:
        endpoint: such as ``http://collector:4317``; https is encrypted.
        service: what this process is called there.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith("https:"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def as_metadata(span: trace.Span) -> tuple[tuple[str, str], ...]:
    """What a call carries so that its spans become children of this one (W3C trace context)."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return tuple(carrier.items())


class CallSpans(grpc.ServerInterceptor):
    """A span for each call to one of our services, below the caller's if it sent its own."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("pageferry")

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
        return around(handler, lambda request, context: self._span(method, request, context))

    @contextmanager
    def _span(self, method: str, request: Any, context: grpc.ServicerContext) -> Iterator[None]:
        service, _, name = method.removeprefix("/").rpartition("/")
        sent = {key: value for key, value in context.invocation_metadata() if key == "traceparent"}
        with self._tracer.start_as_current_span(
            f"{service.rpartition('.')[2]}/{name}",
            context=_W3C.extract(sent),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            migration = getattr(request, "migration_id", "")
            if migration:
                span.set_attribute("pageferry.migration.id", line(migration))
            try:
                yield
            except PageferryError as error:
                span.set_status(Status(StatusCode.ERROR, line(str(error))))
                span.set_attribute("rpc.grpc.status", error.grpc_status)
                raise
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
