"""What `pageferry record` does: attach, record with progress, and say what came of it."""

from __future__ import annotations

import os
import platform
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from guests.linux import pagemap, userfaultfd
from pageferry.cli.json_target import written
from pageferry.cli.output import stderr_console
from pageferry.fitting import Fitted
from pageferry.record import command as commands
from pageferry.record import guest_ram
from pageferry.record.attach import Attached, attach
from pageferry.record.content import warm
from pageferry.record.errors import CannotRecord
from pageferry.record.mappings import Kind, MapEntry, Maps, can_have_written_pages
from pageferry.record.recording import Plan, Stop, Summary, record
from paging_core.errors import BadTrace
from paging_core.units import FRAME_BYTES, NS_PER_S, format_bytes, format_ns

_SCHEMA = {"name": "pageferry.record", "version": 1}
_LIST_SCHEMA = {"name": "pageferry.record.mappings", "version": 1}
_LINE_EVERY_NS = NS_PER_S


class _Target(NamedTuple):
    """What is recorded: a process, its userfaultfd, its command line, whether it is ours."""

    pid: int
    attached: Attached
    command: list[str]
    ours: bool


def run(
    pid: int | None,
    command: tuple[str, ...],
    out: Path,
    json_target: str | None,
    *,
    force: bool,
    windows: tuple[int, ...],
    for_ns: int | None,
    content: bool,
    guest_ram: str,
    below_4g: int | None,
    no_huge_pages: bool,
    quiet: bool,
) -> None:
    """Record a process, or a command that is started for it, into `out`.

    Raises:
        CannotRecord: it cannot be; says why.
        BadTrace: the trace cannot be written.
    """
    _check_out(out, force=force)
    check_kernel()
    if content:
        warm()
    if pid == os.getpid():
        raise CannotRecord("a process cannot record itself; start it with: pageferry record -- …")
    with _stopped_by_signals() as stop:
        target = _target(pid, command, huge_pages=not no_huge_pages)
        try:
            ram = _ram(target, guest_ram, below_4g)
            plan = Plan(windows, for_ns, content, ram, shlex.join(target.command))
            if ram and not quiet:
                click.echo(f"guest RAM at {ram.start:x}-{ram.end:x}: {ram.assumed}", err=True)
            with _progress(plan, quiet=quiet) as progress:
                summary = record(target.pid, target.attached, plan, out, stop, progress)
        finally:
            became = commands.end(target.pid) if target.ours else ""
            target.attached.close()
    _say(plan, summary, out, json_target, became)


def check_kernel() -> None:
    """Find out whether this machine can record at all, before any process is touched.

    Raises:
        CannotTrack: it cannot; says why.
    """
    if platform.machine() != "x86_64":
        raise CannotRecord(f"recording is written for x86-64, and this is {platform.machine()}")
    userfaultfd.check_kernel()
    pagemap.check_kernel()


def show_mappings(pid: int, json_target: str | None) -> None:
    """Show what a process has mapped, and what looks like a guest's RAM.

    Raises:
        CannotRecord: there is no such process, or it may not be looked at.
    """
    maps = _maps(pid)
    command = commands.command_line(pid)
    ram = _looks_like_ram(maps, command)
    shown = [one for one in maps.read() if can_have_written_pages(one)]
    rows = [_row(one, maps.kind(one), ram) for one in shown]
    maps.close()
    about = ram and {"addresses": f"{ram.start:x}-{ram.end:x}", **ram._asdict()}
    document = {"schema": _LIST_SCHEMA, "pid": pid, "command": command, "guest_ram": about}
    console = written({**document, "mappings": rows}, json_target)
    titles = ("addresses", "size", "modes", "recorded as", "what")
    table = Fitted(titles, left=frozenset(titles[2:]))
    for row in rows:
        size = format_bytes(row["size_bytes"])
        what = f"{row['what']} (guest RAM)".strip() if row["guest_ram"] else row["what"]
        cells = (row["addresses"], size, row["modes"], row["recorded_as"], what)
        table.add(*(Text(one) for one in cells))
    console.print(table)
    if ram:
        line = f"guest RAM: {ram.start:x}-{ram.end:x}, {ram.assumed}"
        console.print(line, markup=False, soft_wrap=True)


def _row(entry: MapEntry, kind: Kind, ram: guest_ram.GuestRam | None) -> dict[str, Any]:
    modes = (("r", entry.readable), ("w", entry.writable), ("x", entry.executable))
    how = "".join(letter if has else "-" for letter, has in modes)
    return {
        "addresses": f"{entry.start:x}-{entry.end:x}",
        "size_bytes": entry.size_bytes,
        "modes": how + ("s" if entry.shared else "p"),
        "recorded_as": kind.value,
        "what": entry.name,
        "guest_ram": ram is not None and entry.start < ram.end and ram.start < entry.end,
    }


def _looks_like_ram(maps: Maps, command: list[str]) -> guest_ram.GuestRam | None:
    if not guest_ram.is_qemu(command):
        return None
    with suppress(CannotRecord):
        return guest_ram.find(maps, command)
    return None


def _maps(pid: int) -> Maps:
    try:
        return Maps(pid)
    except FileNotFoundError as error:
        raise CannotRecord(f"there is no process {pid}; pidof NAME finds one") from error
    except OSError as error:
        raise CannotRecord(
            f"process {pid} may not be looked at ({error.strerror}); run as root, or as the user "
            "whose process it is"
        ) from error


def _check_out(out: Path, *, force: bool) -> None:
    if out.is_dir():
        raise BadTrace(f"cannot write {out}: it is a directory; name a file in it")
    if out.exists() and not force:
        raise BadTrace(f"{out} is there already; give --force to replace it, or another name")
    if not os.access(out.parent, os.W_OK):
        raise BadTrace(f"cannot write {out}: no such directory, or no right to write there")


def _target(pid: int | None, command: tuple[str, ...], *, huge_pages: bool) -> _Target:
    if pid is None:
        started, attached = commands.start(command, huge_pages=huge_pages)
        return _Target(started, attached, list(command), ours=True)
    _maps(pid).close()
    return _Target(pid, attach(pid), commands.command_line(pid), ours=False)


def _ram(target: _Target, wish: str, below_4g: int | None) -> guest_ram.GuestRam | None:
    if wish == "no" or (wish == "auto" and (target.ours or not guest_ram.is_qemu(target.command))):
        return None
    if wish != "auto":
        start, end = guest_ram.parse_range(wish)
        return guest_ram.split(start, end, target.command, below_4g, "what --guest-ram says")
    maps = _maps(target.pid)
    try:
        return guest_ram.find(maps, target.command, low_bytes=below_4g)
    finally:
        maps.close()


@contextmanager
def _stopped_by_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM end the recording, and keep what was recorded; a second one ends us."""
    stop = Stop()
    previous: dict[int, Any] = {}

    def on_signal(signum: int, _: object) -> None:
        if stop.why:
            raise KeyboardInterrupt
        stop.now(f"stopped by {signal.Signals(signum).name}")

    for one in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) is not signal.SIG_IGN:
            previous[one] = signal.signal(one, on_signal)
    try:
        yield stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@contextmanager
def _progress(plan: Plan, *, quiet: bool) -> Iterator[Callable[[Summary], None]]:
    console = stderr_console()
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as shown:
            task = shown.add_task("recording; Ctrl-C ends it", total=None)
            yield lambda summary: shown.update(task, description=_line(plan, summary))
    else:
        yield _Lines(plan, console)


class _Lines:
    """Progress where nothing can be redrawn: a line per second."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console, self._next_ns = plan, console, _LINE_EVERY_NS

    def __call__(self, summary: Summary) -> None:
        if summary.duration_ns >= self._next_ns:
            self._next_ns = summary.duration_ns + _LINE_EVERY_NS
            self._console.print(_line(self._plan, summary), markup=False, soft_wrap=True)


def _line(plan: Plan, summary: Summary) -> str:
    of = f" of {format_ns(plan.for_ns)}" if plan.for_ns else ""
    rate = format_bytes(summary.written_bytes_per_s)
    return (
        f"recording {format_ns(summary.duration_ns)}{of}: {summary.windows:,} windows, "
        f"{summary.rows:,} pages written, {rate}/s"
    )


def _say(plan: Plan, summary: Summary, out: Path, json_target: str | None, became: str) -> None:
    size_bytes = out.stat().st_size
    document = {"schema": _SCHEMA, "trace": str(out), **asdict(summary)}
    document["file_bytes"] = size_bytes
    document["written_bytes_per_s"] = round(summary.written_bytes_per_s)
    document["guest_ram"] = plan.guest_ram and plan.guest_ram._asdict()
    console = written(document, json_target)
    if became:  # stdout is the command's
        console = stderr_console()
    for line in _lines_about(plan, summary, became):
        console.print(line, markup=False, soft_wrap=True)
    about = f"{out}: {format_bytes(size_bytes)}; see pageferry trace show"
    console.print(about, markup=False, soft_wrap=True)


def _lines_about(plan: Plan, summary: Summary, became: str) -> Iterator[str]:
    mean = summary.rows / max(summary.windows, 1)
    yield (
        f"{summary.windows:,} windows in {format_ns(summary.duration_ns)}; {summary.why_ended}"
        + (f"; the command {became}" if became else "")
    )
    yield (
        f"written: {mean:,.1f} pages a window, {summary.distinct:,} different ones "
        f"({format_bytes(summary.distinct * FRAME_BYTES)}); {summary.populated_pages:,} were there "
        f"at the start"
    )
    if plan.content and summary.rows:
        known = summary.changed + summary.same
        yield (
            f"content: {summary.changed:,} changed, {summary.same:,} written with what stood there"
            + (f" ({summary.same / known:.1%})" if known else "")
            + f", {summary.rows - known:,} not known"
        )
    if summary.huge:
        yield (
            f"of the pages written, {summary.huge:,} are in whole huge pages, fresh ones that "
            "the kernel zeroed or those of hugetlbfs: which of the 512 were written, only "
            "--content can tell"
        )
    _, sum_ns = summary.scan_ns
    scan = format_ns(sum_ns / max(summary.windows, 1))
    stood = format_ns(summary.stopped_ns)
    once = f"it stood still for {stood} once; " if summary.stopped_ns else ""
    yield f"cost: {once}a look at all pages took {scan}"
    if summary.programs > 1:
        yield (
            f"{summary.programs} programs, one after the other in the same process; what each "
            "wrote between its last window and its end is not known"
        )
    if summary.late:
        yield f"{summary.late:,} windows took half as long again as asked, or longer"
    for why, names in summary.left_out.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"not recorded, {why}: {shown}"
