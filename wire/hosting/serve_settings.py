"""Settings that every host has, whatever it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paging_core.errors import BadOption
from wire.channel import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from wire.hosting.logs import LEVELS
from wire.hosting.quantity import DURATION, SIZE
from wire.hosting.settings import setting
from wire.trust.security import Security

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_MIN_MESSAGE_BYTES = 2**20
_MIN_METADATA_BYTES = 2**10


def listen_on(default: str) -> Any:
    """The setting of where a server listens."""
    return setting(
        default,
        click.STRING,
        "host:port or unix:path to serve on; port 0 takes a free one and tells it.",
        metavar="ADDRESS",
    )


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server: where it listens, whom it trusts, how much it reads."""

    listen: str = listen_on("127.0.0.1:0")
    metrics_port: int | None = setting(
        None,
        click.IntRange(0, 65535),
        "Show Prometheus metrics on this port of the same host, in plain text; 0 takes a free one.",
        metavar="PORT",
    )
    tls: Path | None = setting(
        None,
        click.Path(path_type=Path, file_okay=False),
        "Directory with tls.crt, tls.key and ca.crt, as pageferry certs makes them: connections "
        "are encrypted, and both sides show a certificate. Renewed files are read again.",
        metavar="DIR",
    )
    insecure: bool = setting(
        "false",
        click.BOOL,
        "Use plain text with other machines, too. Anyone who can reach the port can read guests "
        "and control this host.",
    )
    max_message: int = setting(
        f"{MAX_MESSAGE_BYTES // 2**20}MiB", SIZE, "Longest message that is read from a peer."
    )
    max_metadata: int = setting(
        f"{MAX_METADATA_BYTES // 2**10}KiB", SIZE, "Longest headers of a call that are read."
    )
    max_calls: int = setting(
        "64",
        click.IntRange(4, 1024),
        "Calls and streams at a time, of all peers together; more are refused. Health checks and "
        "reflection have a few of their own.",
    )
    stream_idle: int = setting(
        "5min",
        DURATION,
        "End a call from which a message is awaited, a page stream above all, when nothing came "
        "for so long.",
    )
    otlp: str | None = setting(
        None,
        click.STRING,
        "Send OpenTelemetry spans to this collector, such as http://collector:4317; needs the "
        "extra tracing.",
        metavar="URL",
    )
    log_level: str = setting(
        "info", click.Choice(LEVELS), "Least severe lines that are logged to standard error."
    )
    exit_with_parent: bool = setting(
        "false",
        click.BOOL,
        "End when the process that started this one ends, however it ends.",
    )

    def __post_init__(self) -> None:
        """Check what one field alone cannot.

        Raises:
            BadOption: naming the field.
        """
        for value, least, name in (
            (self.max_message, _MIN_MESSAGE_BYTES, "max-message"),
            (self.max_metadata, _MIN_METADATA_BYTES, "max-metadata"),
        ):
            if not least <= value < 2**31:
                raise BadOption(f"--{name} of {value} bytes is not between {least} and 2 GiB")
        if self.stream_idle <= 0:
            raise BadOption("--stream-idle of 0 ends every call at once; try 5min")

    def span_provider(self, service: str) -> TracerProvider | None:
        """Where spans go; None without ``--otlp``.

        Raises:
            BadOption: no URL, or the extra is not installed.
        """
        if self.otlp is None:
            return None
        if not self.otlp.startswith(("http://", "https://")):
            raise BadOption(f"--otlp {self.otlp!r} is no URL; write it like http://collector:4317")
        try:
            from wire.hosting.spans import to_collector  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise BadOption(
                f"--otlp needs {error.name}; install pageferry with its extra tracing"
            ) from error
        return to_collector(self.otlp, service)

    def security(self) -> Security:
        """Its certificate, or none.

        Raises:
            BadOption: see `Security.of`.
        """
        return Security.of(self.tls, insecure=self.insecure)
