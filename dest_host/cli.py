"""``dest-host``: the command line of the destination."""

from __future__ import annotations

from pathlib import Path

import click

from wire.command import DURATION, MEMORY, SIZE, run_command, serve_options

_DEFAULT_LISTEN = "127.0.0.1:50052"


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
  dest-host serve --listen 0.0.0.0:50052 --metrics-port 9102 --max-guest-memory 32GiB
""",
)
@serve_options("dest-host", _DEFAULT_LISTEN)
@click.option(
    "--max-guest-memory",
    type=MEMORY,
    default="16GiB",
    show_default=True,
    help="Refuse larger guests when they are announced, before a page moves.",
)
@click.option(
    "--max-total-memory",
    type=MEMORY,
    default="64GiB",
    show_default=True,
    help="Memory of all guests and incoming migrations together.",
)
@click.option(
    "--max-incoming",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Migrations that may be under way at the same time.",
)
@click.option(
    "--max-payload",
    type=SIZE,
    default="4MiB",
    show_default=True,
    help="Most that one batch may hold after decompression; sources send no more at once.",
)
@click.option(
    "--idle-expiry",
    type=DURATION,
    default="5min",
    show_default=True,
    help="Drop a migration, and free its memory, when its source says nothing for so long.",
)
@click.option(
    "--trace-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the traces lie that guests replay, by file name.  [default: the path that the "
    "source names]",
)
def serve(
    *,
    listen: str,
    metrics_port: int | None,
    max_guest_memory: int,
    max_total_memory: int,
    max_incoming: int,
    max_payload: int,
    idle_expiry: int,
    trace_dir: Path | None,
) -> None:
    """Take guests in, prove them and run them, until SIGTERM or Ctrl-C.

    One line of JSON on standard output tells the address once the host serves; the log goes
    to standard error. Standard gRPC health checking and reflection are on, so grpcurl and
    Kubernetes probes work as they are. Every option can also be set in the environment:
    DEST_HOST_SERVE_LISTEN, DEST_HOST_SERVE_METRICS_PORT and so on.

    A guest that is taken over lives in this process's memory and is gone when it ends. SIGTERM
    aborts the migrations that are under way, whose guests go on at their sources; a second
    signal ends at once.
    """
    from dest_host.factory import ModelGuestFactory, warm_up  # noqa: PLC0415 - --help must not import numba
    from dest_host.host import DestinationHost  # noqa: PLC0415
    from dest_host.limits import Limits  # noqa: PLC0415
    from dest_host.receiver import Receiver  # noqa: PLC0415

    limits = Limits(
        max_guest_bytes=max_guest_memory,
        max_total_bytes=max_total_memory,
        max_incoming=max_incoming,
        max_payload_bytes=max_payload,
        idle_expiry_s=idle_expiry / 1e9,
    )
    warm_up()
    receiver = Receiver(limits, ModelGuestFactory(trace_dir))
    DestinationHost(receiver, listen, metrics_port).run()


def main() -> None:
    """Entry point."""
    run_command(cli, "DEST_HOST")
