"""The command `source-host`."""

from __future__ import annotations

from pathlib import Path

import click

from wire.command import MEMORY, run_command, serve_options

DEFAULT_LISTEN = "127.0.0.1:50051"


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
  source-host serve --listen 0.0.0.0:50051 --metrics-port 9101 --max-total-memory 16GiB
""",
)
@serve_options("source", DEFAULT_LISTEN)
@click.option(
    "--max-total-memory",
    "max_total_memory_bytes",
    type=MEMORY,
    default="8GiB",
    show_default=True,
    help="Memory of all guests together; a guest that would go beyond is refused.",
)
@click.option(
    "--max-migrations",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Migrations that run at the same time; each takes a thread and up to 32 MiB on the way.",
)
@click.option(
    "--flow-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where migrations may write flow traces; without it they may not.",
)
def serve(
    listen: str,
    metrics_port: int | None,
    max_total_memory_bytes: int,
    max_migrations: int,
    flow_dir: Path | None,
) -> None:
    """Create guests, migrate them, watch them go, until SIGTERM or Ctrl-C.

    One line of JSON on standard output tells the address once the host serves; the log goes to
    standard error. Standard gRPC health checking and reflection are on. Every option can also be
    set in the environment: SOURCE_HOST_SERVE_LISTEN, SOURCE_HOST_SERVE_METRICS_PORT and so on.

    A guest advances only while it is stepped or migrated, lives in this process's memory and is
    gone when it ends. SIGTERM cancels the migrations that run, tells who watches them, and logs
    what became of each guest; a second signal ends at once.
    """
    from source_host.host import SourceHost  # noqa: PLC0415 - numba is slow to import

    SourceHost(
        listen,
        max_total_memory_bytes=max_total_memory_bytes,
        max_migrations=max_migrations,
        metrics_port=metrics_port,
        flow_root=flow_dir,
    ).server.run()


def main() -> None:
    """Entry point."""
    run_command(cli, "SOURCE_HOST")
