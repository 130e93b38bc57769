"""The command `source-host`."""

from __future__ import annotations

import click
import structlog

from source_host.settings import SourceSettings
from wire.hosting.command import prepare_process, run_command
from wire.hosting.health import NEEDED, report_health
from wire.hosting.settings import from_settings

PREFIX = "SOURCE_HOST"
"""Of the environment's variables."""

_log = structlog.get_logger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pageferry", prog_name="source-host")
def cli() -> None:
    """The host that guests migrate from.

    It runs guests, tracks which of their pages are written, sends those to a destination host
    while the guest runs, and hands the guest over once every page was proved.
    """


@cli.command(
    epilog="""\b
Examples:
  source-host serve
  source-host serve --listen 0.0.0.0:50051 --tls certs/source --metrics-port 9101
  source-host serve --config source.toml --print-config
""",
)
@from_settings(SourceSettings, PREFIX)
def serve(settings: SourceSettings) -> None:
    """Create guests, migrate them, watch them go, until SIGTERM or Ctrl-C.

    One line of JSON on standard output tells the address once the host serves; the log goes to
    standard error. Standard gRPC health checking and reflection are on. Every setting is an
    option here, a key of the TOML file that --config names, and a variable of the environment:
    SOURCE_HOST_LISTEN, SOURCE_HOST_MAX_MIGRATIONS and so on.

    A guest runs once it is started, or let run with its migration; its memory is gone when this
    host ends. SIGTERM drains the host: it starts nothing more, the migrations under way end first
    (for --drain at most, then they are cancelled), who watches them is told, and the log says
    where each guest is. A second signal cancels them at once, a third ends at once.
    """
    prepare_process(settings, "source")
    from paging_core.compiled import is_cold  # noqa: PLC0415 - numba is slow to import
    from source_host.host import SourceHost  # noqa: PLC0415
    from wire.hosting.room import MemoryOfHost  # noqa: PLC0415

    if is_cold():
        from paging_core.warm import compile_all  # noqa: PLC0415

        # Before it serves, or the first guest's boot and pause would pay for it.
        _log.info("compiling the model", takes="half a minute, once")
        compile_all()
    MemoryOfHost().tell(settings.max_total_memory)
    SourceHost(settings, settings.span_provider("pageferry-source")).server.run()


@cli.command()
@from_settings(SourceSettings, PREFIX, only=NEEDED)
def health(settings: SourceSettings) -> None:
    """Ask the source host of this machine whether it serves; ends with 0 if it does.

    For the health checks of containers. It finds the host by the same settings as serve.
    """
    report_health(settings)


def main() -> None:
    """Entry point."""
    run_command(cli)
