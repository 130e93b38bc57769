"""What `pageferry measure` does: rounds of each way in turn, a table and a document."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import click

from guests.linux.handler import FaultHandler
from guests.linux.handler_state import whole
from guests.linux.userfaultfd import ALL_FAULTS, SYNCHRONOUS, enable, make
from pageferry.cli.json_target import written
from pageferry.cli.recording import check_kernel
from pageferry.fitting import Fitted
from pageferry.measure.rounds import (
    ASYNC,
    ONLY_GUEST_RAM,
    SYNC,
    UNTRACKED,
    Measured,
    Plan,
    Round,
    Way,
    percentile_below_ns,
    run_round,
)
from pageferry.record import guest_ram as rams
from pageferry.record.command import command_line
from pageferry.record.content import warm
from pageferry.record.errors import CannotRecord
from pageferry.record.mappings import Maps
from paging_core.config import GroupPolicy
from paging_core.memory import GuestMemory
from paging_core.units import format_ns

_SCHEMA = {"name": "pageferry.measure", "version": 1}
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def run(
    pid: int,
    json_target: str | None,
    *,
    sizes: tuple[int, ...],
    tracking: tuple[str, ...],
    for_ns: int,
    every_ns: int,
    rounds: int,
    throughput: str,
    content: bool,
    guest_ram: str,
) -> None:
    """Measure a process, and say what came of it.

    Raises:
        CannotRecord: it cannot be; says why.
        CannotTrack: this kernel does not let it be, or not for this user.
    """
    if pid == os.getpid():
        raise CannotRecord("a process cannot measure itself; name another one")
    if not Path(f"/proc/{pid}").exists():
        raise CannotRecord(f"process {pid} has ended, or there was none")
    check_kernel()
    command = command_line(pid)
    if SYNC in tracking and (guest_ram != "auto" or not rams.is_qemu(command)):
        raise CannotRecord(ONLY_GUEST_RAM)
    ways = _ways(sizes, tracking, untracked=bool(throughput))
    plan = Plan(ways, rounds, for_ns, every_ns, throughput, content, _ram(pid, command, guest_ram))
    if SYNC in tracking:
        warm_handler()
    if content:
        warm()
    found: dict[Way, list[Round]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(run_round(pid, way, plan))
            click.echo(_progress(found[way][-1]), err=True)
    measured = [Measured(way, tuple(each)) for way, each in found.items()]
    _say(plan, measured, command, pid, json_target)


def _ways(sizes: tuple[int, ...], tracking: tuple[str, ...], *, untracked: bool) -> tuple[Way, ...]:
    """What has its turn in each round."""
    ways = [Way(UNTRACKED)] if untracked else []
    ways += [Way(ASYNC)] if ASYNC in tracking else []
    ways += [Way(SYNC, n) for n in dict.fromkeys(sizes)] if SYNC in tracking else []
    return tuple(ways)


def _ram(pid: int, command: list[str], wish: str) -> rams.GuestRam | None:
    if wish == "no" or (wish == "auto" and not rams.is_qemu(command)):
        return None
    if wish != "auto":
        start, end = rams.parse_range(wish)
        return rams.split(start, end, command, None, "what --guest-ram says")
    try:
        with closing(Maps(pid)) as maps:
            return rams.find(maps, command)
    except OSError as error:
        raise CannotRecord(f"process {pid} may not be looked at ({error.strerror})") from error


def warm_handler() -> None:
    """Compile what answers faults, or load it, before a program waits for it; on memory of ours.

    Raises:
        CannotTrack: this user may have no userfaultfd that system calls wait for.
    """
    own = make(ALL_FAULTS)
    enable(own, SYNCHRONOUS)
    with GuestMemory(1) as memory:
        memory.populate()
        handler = FaultHandler(own, whole(memory.frames.ctypes.data, 1), GroupPolicy())
        handler.start()
        memory.words[0, 0] = 1
        handler.clean()
        handler.close()


def _name(way: Way) -> str:
    return f"{way.tracking}, groups of {way.n}" if way.tracking == SYNC else way.tracking


def _progress(one: Round) -> str:
    said = f"{_name(one.way)}: {format_ns(one.duration_ns)}, {one.total('faults'):,} faults"
    return said if one.throughput is None else f"{said}, throughput {one.throughput:,.6g}"


def _say(
    plan: Plan, measured: list[Measured], command: list[str], pid: int, json_target: str | None
) -> None:
    untracked = next((one for one in measured if one.way.tracking == UNTRACKED), None)
    rows = [_row(one, untracked) for one in measured]
    document = {
        "schema": _SCHEMA, "pid": pid, "command": command, "clean_every_ns": plan.every_ns,
        "guest_ram": plan.ram and plan.ram._asdict(), "ways": rows,
    }  # fmt: skip
    console = written(document, json_target)
    titles = ("tracking", "faults/s", "faults a window", "opened", "falsely", "handler's time",
              "throughput", "against none")  # fmt: skip
    table = Fitted(titles, left=frozenset(titles[:1]))
    for one, row in zip(measured, rows, strict=True):
        table.add(_name(one.way), *_cells(row))
    console.print(table)
    for line in _notes(measured):
        console.print(line, markup=False, soft_wrap=True)


def _row(one: Measured, untracked: Measured | None) -> dict[str, Any]:
    looks, each = one.looks, [look.faults for look in one.looks]
    judged = [look for look in looks if look.false is not None]
    latency = one.latency
    return {
        "tracking": one.way.tracking,
        "group_pages": one.way.n,
        "rounds": len(one.rounds),
        "seconds": one.seconds,
        "windows": len(looks),
        "faults": sum(each),
        "faults_per_window": {"least": min(each), "median": median(each), "most": max(each)},
        "dirty": sum(look.dirty for look in looks),
        "opened": sum(look.opened for look in looks),
        "opened_unchanged": sum(look.false or 0 for look in judged) if judged else None,
        "opened_changed": sum(look.changed or 0 for look in judged) if judged else None,
        "handler_ns_below": {
            name: percentile_below_ns(latency, share) for name, share in _SHARES.items()
        },
        "handler_ns_histogram": latency.tolist(),
        "throughput": one.throughput,
        "throughput_against_none": untracked and one.against(untracked),
        "stopped_ns": [round_.stopped_ns for round_ in one.rounds],
        "left_out": sorted({name for round_ in one.rounds for name in round_.left_out}),
    }


def _cells(row: dict[str, Any]) -> Iterator[str]:
    tracked, grouped = row["tracking"] != UNTRACKED, row["tracking"] == SYNC
    yield f"{row['faults'] / row['seconds']:,.0f}" if tracked else "–"
    windows = row["faults_per_window"]
    yield f"{windows['least']:,} to {windows['most']:,}" if tracked else "–"
    yield f"{row['opened']:,}" if grouped else "–"
    yield _falsely(row) if grouped else "–"
    below = row["handler_ns_below"]
    known = below["p50"] is not None
    yield f"{format_ns(below['p50'])}, 99 %: {format_ns(below['p99'])}" if known else "–"
    yield f"{median(row['throughput']):,.6g}" if row["throughput"] else "–"
    share = row["throughput_against_none"]
    yield f"{100 * (share - 1):+.1f} %" if share is not None and tracked else "–"


def _falsely(row: dict[str, Any]) -> str:
    if row["opened_unchanged"] is None:
        return "not read"
    judged = row["opened_unchanged"] + row["opened_changed"]
    return f"{row['opened_unchanged']:,} of {judged:,}"


def _notes(measured: list[Measured]) -> Iterator[str]:
    tracked = [one for one in measured if one.way.tracking != UNTRACKED]
    stood = [round_.stopped_ns for one in tracked for round_ in one.rounds]
    yield f"it stood still for {format_ns(median(stood))} at the beginning of each tracked round"
    if any(one.way.tracking == SYNC for one in tracked):
        yield (
            "handler's time: from reading a fault to letting the writer go on, below so much; "
            "waking the handler and the writer comes on top"
        )
    names = sorted({name for one in tracked for each in one.rounds for name in each.left_out})
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"not tracked: {', '.join(names[:3])}{more}"
