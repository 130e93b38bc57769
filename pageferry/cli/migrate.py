"""`pageferry migrate`: one migration, from the options to the closing tables."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from pageferry.cli.kinds import (
    DOWNTIME_LIMIT_NS,
    GROUP_PAGES,
    LATENCY_NS,
    MAX_DOWNTIME_NS,
    MEMORY_BYTES,
    RATE_BITS_PER_S,
    WARMUP_NS,
)
from pageferry.cli.sections import SectionedCommand, section


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  pageferry migrate
  pageferry migrate --group-pages 64 --json grouped.json
  pageferry migrate --paging hap --pml --workload zipf --link 10Gbit/s
  pageferry migrate --trace examples/traces/redis.parquet --policy qemu
  pageferry migrate --clock real --memory 1GiB --workload idle --fill random
\b
Exit code: 0 the guest moved, every page proved; 1 it did not, and one line says why;
2 an option cannot be, nothing was started; 130 stopped by Ctrl-C.
""",
)
@section("The guest")
@click.option(
    "--memory",
    "memory_bytes",
    type=MEMORY_BYTES,
    default="256MiB",
    show_default=True,
    help="Guest memory, a multiple of the 4 KiB frame.",
)
@click.option(
    "--workload",
    metavar="NAME[:k=v,…]",
    default=None,
    help="What the guest runs; see pageferry workloads.  [default: hotcold]",
)
@click.option(
    "--trace",
    metavar="FILE",
    default=None,
    help="Replay this memory trace of a real program instead of a workload. With --source, a "
    "path on that host.",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    default=0,
    show_default=True,
    help="Of everything random: the same seed gives the same result anywhere.",
)
@click.option(
    "--fill",
    type=click.Choice(["zero", "mixed", "random"]),
    default="mixed",
    show_default=True,
    help="What stands in memory before the workload writes to it; mixed is a third zeros, "
    "a third like text, a third random.",
)
@section("How its writes are tracked")
@click.option(
    "--paging",
    type=click.Choice(["shadow", "hap"]),
    default="shadow",
    show_default=True,
    help="Who translates guest physical memory: shadow page tables "
    "kept by the hypervisor, or a P2M that the hardware walks.",
)
@click.option(
    "--clean",
    type=click.Choice(["blow", "write-protect", "lazy", "eager", "clear-log"]),
    default=None,
    help="How write access is revoked after each round. Shadow: blow "
    "(Xen, drop every shadow) or write-protect (KVM). HAP: lazy (mark the root) or "
    "eager (every leaf). Both: clear-log (KVM since 2018: a chunk of memory at a time, right "
    "before its pages are sent).  [default: blow, lazy]",
)
@click.option(
    "--clear-chunk",
    "clear_chunk_bytes",
    type=MEMORY_BYTES,
    default="4MiB",
    show_default=True,
    help="Memory whose log is cleared at a time by --clean clear-log; QEMU takes 1GiB.",
)
@click.option(
    "--pml",
    is_flag=True,
    help="HAP: the hardware notes writes in a buffer of 512 entries; an exit when it is full "
    "instead of a fault for each page.",
)
@click.option(
    "--group-pages",
    type=GROUP_PAGES,
    metavar="N|adaptive",
    default=1,
    show_default=True,
    help="Frames that one fixup fault (the first write to a clean one) opens and marks dirty; "
    "a power of two to 4096. More: fewer faults, more frames sent that nobody wrote. "
    "adaptive: sizes are learned from what became of the frames that were opened.",
)
@click.option(
    "--group-trigger",
    type=click.IntRange(1, 4096),
    metavar="K",
    default=1,
    show_default=True,
    help="A group opens with its K-th dirty frame; 2 and more spare lonely writes.",
)
@click.option(
    "--group-scope",
    type=click.Choice(["virtual", "physical"]),
    default=None,
    help="Groups are neighbours in the address space or in guest memory.  "
    "[default: virtual under shadow, physical under HAP]",
)
@click.option(
    "--d-bit-filter",
    is_flag=True,
    help="Drop frames of a group at clean time that the hardware's D bit says nobody wrote.",
)
@click.option(
    "--no-prefetch",
    is_flag=True,
    help="Shadow: a fault builds one entry, and not up to 31 more behind it as in Xen.",
)
@click.option(
    "--out-of-sync",
    is_flag=True,
    help="Shadow: let the guest write its own L1 "
    "tables and compare them later, instead of emulating each write.",
)
@click.option(
    "--costs",
    "costs_file",
    metavar="FILE",
    default=None,
    type=click.Path(),
    help="TOML file of nanoseconds per event; see pageferry costs.",
)
@section("The migration")
@click.option(
    "--policy",
    type=click.Choice(["xen", "xen-2009", "qemu"]),
    default="xen",
    show_default=True,
    help="When the guest is paused for the rest. xen: under 50 dirty pages, or after 5 rounds. "
    "xen-2009: after 29 rounds or 3 x memory sent, and pages dirty again are skipped. "
    "qemu: when the rest fits the downtime limit.",
)
@click.option(
    "--downtime-limit",
    "downtime_limit_ns",
    type=DOWNTIME_LIMIT_NS,
    default="300ms",
    show_default=True,
    help="The goal of --policy qemu; the other two have none.",
)
@click.option(
    "--max-downtime",
    "max_downtime_ns",
    type=MAX_DOWNTIME_NS,
    default=None,
    help="Give a stop-and-copy up that takes longer, whoever is waited for: the guest goes on at "
    "the source.  [default: 30s; with --policy qemu twice the downtime limit, if longer]",
)
@click.option(
    "--max-rounds",
    type=click.IntRange(0, 10_000),
    metavar="N",
    default=0,
    help="Most rounds beside the running guest.  [default: 5, 29 or 30, by policy]",
)
@click.option(
    "--warmup",
    "warmup_ns",
    type=WARMUP_NS,
    default="0ms",
    show_default=True,
    help="Let the guest run for so long before tracking is switched on.",
)
@click.option(
    "--no-suppress",
    is_flag=True,
    help="Send the content of dirty pages that did not change, and not a digest.",
)
@click.option(
    "--zstd-level",
    type=click.IntRange(-50, 22),
    default=None,
    metavar="N",
    help="Compress pages: 1 is fast, 22 small, 0 off.  [default: 1 where it pays]",
)
@section("Clock and link")
@click.option(
    "--clock",
    type=click.Choice(["virtual", "real"]),
    default="virtual",
    show_default=True,
    help="virtual: time is modelled, and a seed gives the same result on every machine. "
    "real: the guest runs beside the transfer, and what is shown was measured.",
)
@click.option(
    "--link",
    "link_bits_per_s",
    type=RATE_BITS_PER_S,
    default="1Gbit/s",
    show_default=True,
    help="Bandwidth of the modelled link (virtual clock).",
)
@click.option(
    "--latency",
    "latency_ns",
    type=LATENCY_NS,
    default="100us",
    show_default=True,
    help="Its latency, one way.",
)
@section("Hosts and output")
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
    help="Speak plain text with a --source on another machine.",
)
@click.option(
    "--json",
    "json_target",
    metavar="FILE",
    default=None,
    help="Write the result as one JSON document; - is stdout.",
)
@click.option(
    "--flow",
    metavar="DIR",
    default=None,
    help="Write every fault and every page sent to an empty directory; see docs/flow.md. With "
    "--source, a directory below that host's --flow-dir.",
)
@click.option("--quiet", is_flag=True, help="No progress and no tables; errors remain.")
@click.option("--no-progress", is_flag=True, help="Only the closing tables.")
@click.pass_context
def migrate(
    ctx: click.Context,
    /,
    json_target: str | None,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Migrate a guest from a source host to a destination host.

    Starts both hosts on loopback, boots a guest, tracks its writes while its memory crosses
    in rounds, pauses it for the rest, proves every page on the destination and lets it run
    there. Ends with what the tracking cost the guest and what the network carried.
    """
    from pageferry.cli.run import Output, run
    from pageferry.request import MigrationOptions

    _refuse_a_modelled_link(ctx)
    _refuse_tls_of_our_own(ctx)
    output = Output(json_target, quiet=quiet, progress=not no_progress)
    ctx.exit(run(MigrationOptions(**options), output))


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
    # From the environment it may stay set; typed, somebody believes that it does something.
    if ctx.params["source"] is not None:
        return
    for name in ("tls", "insecure"):
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name} is about hosts that run already: give --source and --dest too", ctx
            )
