"""`pageferry migrate`: one migration, from the options to the closing tables."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from pageferry.cli.json_target import json_option
from pageferry.cli.kinds import setting_options
from pageferry.cli.limits import fail_if, thresholds
from pageferry.cli.sections import SectionedCommand, in_sections, section


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  pageferry migrate
  pageferry migrate --group-pages 64 --json grouped.json
  pageferry migrate --paging hap --pml --workload zipf --link 10Gbit/s
  pageferry migrate --trace examples/traces/redis.parquet --policy qemu
  pageferry migrate --clock real --memory 1GiB --workload idle --fill random
  pageferry migrate --guest guest-1f2e3d4c --source rack1:50051 --dest rack2:50052
  pageferry migrate --quiet --fail-if "overhead > 1%" --fail-if "downtime > 300ms"
\b
Exit code: 0 the guest moved, every page proved; 1 it did not, and one line says why;
2 an option cannot be, nothing was started; 3 it moved, and --fail-if found something;
130 stopped by Ctrl-C.
""",
)
@setting_options
@section("Hosts and output")
@click.option(
    "--guest",
    metavar="ID",
    default=None,
    help="Migrate this guest, which is at --source already (pageferry guests lists them), and boot "
    "none: after a failure, or to another destination. It has its settings from when it booted.",
)
@click.option(
    "--source",
    metavar="ADDR",
    default=None,
    help="Address of a running source host.  [default: start one on loopback]",
)
@click.option(
    "--dest",
    metavar="ADDR",
    default=None,
    help="Address of a running destination host, as the source reaches it.",
)
@click.option(
    "--tls",
    metavar="DIR",
    envvar="PAGEFERRY_TLS",
    default=None,
    help="Your certificate for --source: a directory that pageferry certs made, such as "
    "certs/operator.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Use plain text with a --source on another machine.",
)
@json_option
@click.option(
    "--flow",
    metavar="DIR",
    default=None,
    help="Write every fault and every page sent to an empty directory; see docs/flow.md. With "
    "--source, a directory below that host's --flow-dir.",
)
@fail_if
@click.option("--quiet", is_flag=True, help="No progress and no tables; errors remain.")
@click.option("--no-progress", is_flag=True, help="Only the closing tables.")
@click.pass_context
def migrate(
    ctx: click.Context,
    /,
    json_target: str | None,
    quiet: bool,
    no_progress: bool,
    fail_if: tuple[str, ...],
    **options: Any,
) -> None:
    """Migrate a guest from a source host to a destination host.

    Starts both hosts on loopback, boots a guest, tracks its writes while its memory crosses
    in rounds, pauses it for the rest, proves every page on the destination and lets it run
    there. Ends with what the tracking cost the guest and what the network carried.
    """
    from pageferry.cli.run import Output, run
    from pageferry.cli.shell import typed
    from pageferry.request import MigrationOptions

    _refuse_a_modelled_link(ctx)
    _refuse_tls_of_our_own(ctx)
    _refuse_to_boot_what_is_there(ctx)
    output = Output(
        json_target, quiet=quiet, progress=not no_progress, command=typed(ctx),
        thresholds=thresholds(fail_if),
    )  # fmt: skip
    ctx.exit(run(MigrationOptions.typed(options), output))


def _refuse_a_modelled_link(ctx: click.Context) -> None:
    # On the real clock the network is what it is: a rate typed here would only mislead.
    if ctx.params["clock"] != "real":
        return
    for name, option in (("link_bits_per_s", "--link"), ("latency_ns", "--latency")):
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{option} models a link on the virtual clock; drop it, or use --clock virtual",
                ctx,
            )


def _refuse_tls_of_our_own(ctx: click.Context) -> None:
    # From the environment it may stay set; typed, it was meant to do something.
    if ctx.params["source"] is not None:
        return
    for name in ("tls", "insecure"):
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name} is about hosts that run already: give --source and --dest too", ctx
            )


def _refuse_to_boot_what_is_there(ctx: click.Context) -> None:
    if ctx.params["guest"] is None:
        return
    if ctx.params["source"] is None or ctx.params["dest"] is None:
        raise click.UsageError(
            "--guest names one at a host that runs already: give --source and --dest too", ctx
        )
    for param in in_sections(ctx.command, "The guest", "How its writes are tracked"):
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{param.opts[0]} is settled when a guest boots, and --guest names one that did; "
                "drop one of them",
                ctx,
            )
