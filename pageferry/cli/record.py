"""`pageferry record`: which pages a running process, or its virtual machine, writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pageferry.cli.json_target import json_option
from pageferry.record.windows import parse_windows_ns
from paging_core.errors import PageferryError
from wire.hosting.quantity import DURATION, SIZE


class Windows(click.ParamType[tuple[int, ...]]):
    """Durations with commas between them, nanoseconds."""

    name = "durations"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Parse, or fail with the way out and the option that it is about."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_windows_ns(value)
        except PageferryError as error:
            self.fail(str(error), param, ctx)


@click.command(
    epilog="""\b
A program that runs already, a command from its first instruction on, a virtual machine:
  pageferry record --pid 4711 --out server.parquet --for 30s
  pageferry record --out sort.parquet -- sort -n numbers.txt
  pageferry record --pid $(pidof qemu-system-x86_64) --out vm.parquet --windows 100ms --for 60s
  pageferry record --list $(pidof qemu-system-x86_64)
"""
)
@click.argument("command", nargs=-1, metavar="[-- COMMAND …]", type=click.UNPROCESSED)
@click.option("--pid", type=int, metavar="PID", help="Record this running process.")
@click.option(
    "--list",
    "list_pid",
    type=int,
    metavar="PID",
    help="Show what it has mapped, and record nothing.",
)
@click.option("--out", metavar="FILE.parquet", help="The trace of written pages to write.")
@click.option("--force", is_flag=True, help="Replace the trace if it is there.")
@click.option(
    "--windows",
    type=Windows(),
    metavar="DURATION,…",
    default="100ms",
    show_default=True,
    help="Lengths of the windows, one after the other and then again from the first one.",
)
@click.option(
    "--for",
    "for_ns",
    type=DURATION,
    metavar="DURATION",
    help="How long to record.  [default: until it ends, or Ctrl-C]",
)
@click.option(
    "--content",
    is_flag=True,
    help="Read every page that was written: did the writes change anything? It costs memory "
    "bandwidth, and up to a second per GiB at the start.",
)
@click.option(
    "--guest-ram",
    metavar="auto|no|START-END",
    default="auto",
    show_default=True,
    help="Record a virtual machine's RAM, by guest physical address: auto is for QEMU, "
    "no records the process, a range is one of --list.",
)
@click.option(
    "--below-4g",
    type=SIZE,
    metavar="SIZE",
    help="How much of that RAM lies below the guest's 4 GiB.  [default: as QEMU's machine has it]",
)
@click.option(
    "--no-huge-pages",
    is_flag=True,
    help="Give COMMAND no transparent huge pages: a fresh one counts as 512 pages written.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
def record(
    command: tuple[str, ...],
    pid: int | None,
    list_pid: int | None,
    out: str | None,
    json_target: str | None,
    **options: Any,
) -> None:
    """Record which pages a running process or virtual machine writes, window by window.

    The process needs no restart and no special build, and runs on at nearly its own speed: the
    first write to a page in each window costs it about a microsecond. It is stopped once, for some
    milliseconds, at the start. Linux 6.7 or newer, as root or with CAP_SYS_PTRACE; your own
    processes need neither where kernel.yama.ptrace_scope is 0.

    The process of a QEMU is recorded as the machine in it: its RAM by guest physical address.
    """
    from pageferry.cli import recording
    from pageferry.cli.json_target import check

    check(json_target)
    if [pid is not None, list_pid is not None, bool(command)].count(True) != 1:
        raise click.UsageError("give one of --pid PID, --list PID and -- COMMAND …")
    if list_pid is not None:
        recording.show_mappings(list_pid, json_target)
        return
    if out is None:
        raise click.UsageError("give --out FILE.parquet, where the trace shall be")
    if options["no_huge_pages"] and not command:
        raise click.UsageError(
            "--no-huge-pages is for a COMMAND; a process that runs has its pages"
        )
    recording.run(pid, command, Path(out), json_target, **options)
