"""`pageferry measure`: what tracking its writes costs a program that runs already."""

from __future__ import annotations

from typing import Any

import click

from pageferry.cli.json_target import json_option
from paging_core.errors import PageferryError
from paging_core.units import parse_count
from wire.hosting.quantity import DURATION

_LARGEST = 4096


class Sizes(click.ParamType[tuple[int, ...]]):
    """Group sizes with commas between them: powers of two."""

    name = "sizes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Parse, or fail with the way out and the option that it is about."""
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(parse_count(one) for one in value.split(","))
        except PageferryError as error:
            self.fail(str(error), param, ctx)
        for one in sizes:
            if not 1 <= one <= _LARGEST or one & (one - 1):
                self.fail(
                    f"{one} is no power of two from 1 to {_LARGEST}, like 1,16,64", param, ctx
                )
        return sizes


@click.command(
    epilog="""\b
A redis under load, tracked page by page by the kernel, with what its client sees:
  pageferry measure --pid $(pidof redis-server) --tracking uffd-async \\
      --throughput 'redis-benchmark -t set -n 200000 -r 100000 --csv | tail -1 | cut -d\\" -f4'
A virtual machine, by guest physical address, without its help:
  pageferry measure --pid $(pidof qemu-system-x86_64) --group-pages 1,8,64 --for 30s
"""
)
@click.option("--pid", type=int, required=True, metavar="PID", help="The program, which runs.")
@click.option(
    "--group-pages",
    "sizes",
    type=Sizes(),
    metavar="N,…",
    default="1,16,64",
    show_default=True,
    help="Pages that one fault opens, under uffd-sync: aligned groups.",
)
@click.option(
    "--tracking",
    multiple=True,
    type=click.Choice(["uffd-sync", "uffd-async"]),
    default=("uffd-sync",),
    show_default=True,
    help="uffd-sync: a handler answers each fault; uffd-async: the kernel does, page by page. May "
    "be given twice.",
)
@click.option(
    "--for", "for_ns", type=DURATION, metavar="DURATION", default="10s", show_default=True,
    help="How long a round is; it also lasts until the command of --throughput ends.",
)  # fmt: skip
@click.option(
    "--clean-every",
    "every_ns",
    type=DURATION,
    metavar="DURATION",
    default="100ms",
    show_default=True,
    help="How often the dirty pages are taken and protected again.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="How often each way of tracking has its turn.",
)
@click.option(
    "--throughput",
    metavar="COMMAND",
    default="",
    help="Run by a shell in each round; the last number that it prints is how fast the program is. "
    "Rounds without tracking come between the others then.",
)
@click.option(
    "--content",
    is_flag=True,
    help="Read what was opened: did it change? It takes memory bandwidth: measure speed without.",
)
@click.option(
    "--guest-ram",
    metavar="auto|no|START-END",
    default="auto",
    show_default=True,
    help="Track a virtual machine's RAM: auto is for QEMU, no tracks the process, a range is one "
    "of pageferry record --list.",
)
@json_option
def measure(pid: int, json_target: str | None, **options: Any) -> None:
    """Measure what tracking its writes costs a program that runs, from outside.

    It is attached to as pageferry record does, once for each round, and left as it was. Its memory
    is write-protected by userfaultfd; each first write to a page is a fault that is answered here,
    by compiled code, and opens the aligned group: in the RAM of a QEMU only, as threads that end in
    other memory would not wait for it. Shown are faults, how long they took, pages that
    groups opened, and the program's own throughput with tracking and without.

    Linux 6.7 or newer on x86-64, as root or with CAP_SYS_PTRACE. A program that is not root's own
    needs sysctl vm.unprivileged_userfaultfd=1 for uffd-sync.
    """
    from pageferry.cli import measuring
    from pageferry.cli.json_target import check

    check(json_target)
    measuring.run(pid, json_target, **options)
