"""``dest-host``: the command line of the destination."""

from __future__ import annotations

import click

from dest_host.settings import DestinationSettings
from wire.hosting.command import prepare_process, run_command
from wire.hosting.health import NEEDED, report_health
from wire.hosting.settings import from_settings

PREFIX = "DEST_HOST"
"""Of the environment's variables."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pageferry", prog_name="dest-host")
def cli() -> None:
    """The host that guests migrate to.

    It rebuilds a guest's memory from a stream of pages, checks every batch, compares a
    digest of all memory with the source's, and runs the guest once the source commits.
    """


@cli.command(
    epilog="""\b
Examples:
  dest-host serve
  dest-host serve --listen 0.0.0.0:50052 --tls certs/destination --max-guest-memory 32GiB
  dest-host serve --config destination.toml --print-config
""",
)
@from_settings(DestinationSettings, PREFIX)
def serve(settings: DestinationSettings) -> None:
    """Take guests in, prove them and run them, until SIGTERM or Ctrl-C.

    One line of JSON on standard output tells the address once the host serves; the log goes
    to standard error. Standard gRPC health checking and reflection are on. Every setting is an
    option here, a key of the TOML file that --config names, and a variable of the environment:
    DEST_HOST_LISTEN, DEST_HOST_MAX_PAYLOAD and so on.

    A guest that is taken over lives in this process's memory and is gone when it ends. SIGTERM
    aborts the migrations that are under way, whose guests go on at their sources, and logs each
    guest that arrived and is lost; a second signal ends at once.
    """
    prepare_process(settings, "dest-host")
    from dest_host.host import DestinationHost  # noqa: PLC0415 - --help must not import numba
    from wire.hosting.guests.models import warm_up  # noqa: PLC0415
    from wire.hosting.room import MemoryOfHost  # noqa: PLC0415

    warm_up()
    MemoryOfHost().tell(settings.max_total_memory)
    DestinationHost(settings, settings.span_provider("pageferry-destination")).run()


@cli.command()
@from_settings(DestinationSettings, PREFIX, only=NEEDED)
def health(settings: DestinationSettings) -> None:
    """Ask the destination host of this machine whether it serves; ends with 0 if it does.

    For the health checks of containers. It finds the host by the same settings as serve.
    """
    report_health(settings)


def main() -> None:
    """Entry point."""
    run_command(cli)
