"""Ask a host of this machine how it is: what a container's health check runs."""

from __future__ import annotations

import sys
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from wire.address import as_dialled
from wire.channel import CHANNEL_OPTIONS, connect
from wire.hosting.serve_settings import ServeSettings

NEEDED = ("listen", "tls", "insecure")
"""Settings that tell where and how to ask."""
_TIMEOUT_S = 5.0


def report_health(settings: ServeSettings) -> None:
    """Print SERVING and end with 0, or say what it is instead and end with 1."""
    said = ask(settings)
    click.echo(said)
    sys.exit(0 if said == "SERVING" else 1)


def ask(settings: ServeSettings) -> str:
    """The name of the host's status, or why there is none.

    Raises:
        BadOption: its TLS directory cannot be used.
    """
    security = settings.security()
    options = list(CHANNEL_OPTIONS)
    if security.identity is not None:
        # It asks itself: its own certificate need not name loopback.
        options.append(("grpc.ssl_target_name_override", security.identity.server_name()))
    with connect(as_dialled(settings.listen), security, options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            return f"no answer from {settings.listen}: {code}"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
