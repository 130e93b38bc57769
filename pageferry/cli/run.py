"""Run migrations from the shell: progress beside them, results and what they mean after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pageferry import flow_directory, results
from pageferry.cli import json_target
from pageferry.cli.output import stderr_console
from pageferry.cli.shell import EXIT_FAILED, EXIT_THRESHOLD, complain
from pageferry.document import Document, document_of
from pageferry.hosts import Hosts, hosts
from pageferry.interrupts import Interrupted, Interrupts
from pageferry.journey import Ended, Watcher, travel
from pageferry.progress import progress_for
from pageferry.request import MigrationOptions
from pageferry.room import check_room
from pageferry.run_record import record
from pageferry.source_client import SourceClient
from pageferry.tables import rounds, summary
from pageferry.thresholds import Threshold, failed
from pageferry.v1 import common_pb2
from pageferry.whereabouts import of_state
from paging_core.config import GuestConfig
from paging_core.errors import ContractMismatch, HostUnreachable, NotFound, PageferryError
from source_host.precopy.clock_name import ClockName
from wire.convert import guest_config


@dataclass(frozen=True)
class Output:
    """What is shown, and where the result goes.

    Attributes:
        json_target: file of the result document, ``-`` for stdout, None for none.
        quiet: neither progress nor tables.
        progress: show how far it is.
        command: as it was typed.
        thresholds: what the result must not fulfil.
    """

    json_target: str | None = None
    quiet: bool = False
    progress: bool = True
    command: str = ""
    thresholds: Sequence[Threshold] = ()


_STARTING = (
    "starting two hosts on loopback; a machine's first run compiles the model, half a minute"
)


@dataclass(frozen=True)
class Finished:
    """A migration that came to its end.

    Attributes:
        document: its result.
        exit_code: of the command that asked for it.
        complaint: why it did not complete; empty when it did.
        note: where the guest is now, if that is not obvious.
    """

    document: Document
    exit_code: int
    complaint: str = ""
    note: str = ""


def run(options: MigrationOptions, output: Output) -> int:
    """Migrate, show, write; the exit code of the command.

    Raises:
        InvalidInput: something asked for cannot be; nothing was started.
    """
    check(options)
    json_target.check(output.json_target)
    if not output.quiet:
        _say_what_the_trace_lacks(options)

    def action(interrupts: Interrupts) -> int:
        finished = migrate_once(options, output, interrupts)
        if not output.quiet:
            _show(finished, json_target.console_beside(output.json_target))
            _say_where_the_flow_is(options, completed=not finished.complaint)
        if finished.complaint:
            complain(finished.complaint)
            return finished.exit_code
        return _judged(finished, output)

    flow = _own_flow(options)
    with nullcontext() if flow is None else flow_directory.claimed(flow):
        return interruptible(action)


def _say_what_the_trace_lacks(options: MigrationOptions) -> None:
    if options.source is not None or options["trace"] is None:
        return
    from paging_core.traces.opening import what_it_lacks

    if lacks := what_it_lacks(str(options["trace"])):
        stderr_console().print(f"note: {lacks}", soft_wrap=True)


def _own_flow(options: MigrationOptions) -> Path | None:
    """Where hosts of our own write the flow; those elsewhere look after theirs."""
    return Path(options.flow) if options.flow is not None and options.source is None else None


def _judged(finished: Finished, output: Output) -> int:
    """Hold the result against the thresholds; the exit code."""
    exceeded = list(failed(output.thresholds, finished.document))
    if not exceeded:
        return finished.exit_code
    complain("; ".join(exceeded))
    return EXIT_THRESHOLD


def check(options: MigrationOptions) -> None:
    """Refuse what cannot be before anything starts.

    Raises:
        InvalidInput: a value that cannot be, or more memory than this machine has for its hosts.
    """
    options.plan()
    if (flow := _own_flow(options)) is not None:
        flow_directory.check(flow)
    if options.guest is not None:
        options.check_hosts()
        return
    guest = options.guest_config()
    if options.source is None:
        check_room(guest.memory_bytes, twin=options.plan().keeps_twin)


def interruptible(action: Callable[[Interrupts], int]) -> int:
    """Do something that Ctrl-C may end and hosts may fail at; its exit code.

    Raises:
        BadResult: the result cannot be written.
    """
    with Interrupts() as interrupts:
        try:
            return action(interrupts)
        except Interrupted as interrupted:
            complain("stopped at once, before the migration came to an end")
            return interrupted.exit_code
        except PageferryError as error:
            if isinstance(error, results.BadResult):
                raise
            complain(str(error))
            return EXIT_FAILED


def migrate_once(options: MigrationOptions, output: Output, interrupts: Interrupts) -> Finished:
    """One migration with its progress; its document is written before this returns.

    Raises:
        HostUnreachable: a host of our own did not start; or the source of a guest that exists
            does not answer.
        NotFound: the source has no guest of that name.
        ContractMismatch: it does not say what the guest is made of.
        Interrupted: Ctrl-C before the migration began, or for the second time.
    """
    booted = options.guest_config() if options.guest is None else None
    console = stderr_console()
    with progress_for(console, silent=output.quiet or not output.progress) as progress:
        if options.source is None:
            progress.doing(_STARTING)
        with (
            hosts(*options.hosts(), booted.memory_bytes if booted else None) as where,
            SourceClient(where.source, options.security()) as client,
        ):
            guest, trace_digest = (booted, None) if booted else _existing(client, options)
            options = options.but(hypervisor=guest.tracker.hypervisor)  # one that is there has its
            watcher = Watcher(progress, _notifier(console), interrupts)
            ended = travel(client, where.destination, guest, options, watcher)
            if ended.status.error_status == HostUnreachable.grpc_status:
                ended.status.error = where.post_mortem() or ended.status.error
            document = document_of(ended.status, guest, trace_digest, options.plan())
            now = record(output.command)
            if document["config"]["clock"] == ClockName.REAL:  # no second run is like it anyway
                document["run"] |= {"date": now["date"], "machine": now["machine"]}
            if output.json_target is not None:
                results.write(document, output.json_target)
            if (flow := _own_flow(options)) is not None:
                flow_directory.seal(flow, document, now)
            finished = _finished(document, ended, where, client)
            if ended.interrupted is not None:
                where.hurry()
            return finished


def _finished(document: Document, ended: Ended, where: Hosts, client: SourceClient) -> Finished:
    match document["outcome"]:
        case "completed":
            return Finished(
                document, 0, note="" if where.ours else _arrival(document, ended, where)
            )
        case "cancelled":
            code = ended.interrupted.exit_code if ended.interrupted else EXIT_FAILED
            whereabouts = _whereabouts(client, ended, where)
            return Finished(document, code, f"cancelled before the hand-over: {whereabouts}")
        case outcome:
            why = (ended.status.error or f"it ended {outcome}").rstrip(".")
            complaint = f"{why}; {_whereabouts(client, ended, where)}"
            return Finished(document, EXIT_FAILED, complaint)


def _existing(client: SourceClient, options: MigrationOptions) -> tuple[GuestConfig, int | None]:
    """What a guest that the source has is made of, and the digest of its trace."""
    status = client.guest(str(options.guest))
    if not status.HasField("spec"):
        raise ContractMismatch(
            f"the source host at {client.address} does not say what its guests are made of: it "
            "is of a contract before 1.2; update it, or boot a guest without --guest"
        )
    return guest_config(status.spec), status.trace_xxh3_64 or None


def _arrival(document: Document, ended: Ended, where: Hosts) -> str:
    # On the virtual clock nothing passes between two calls: the guest waits to be run.
    does = "runs" if document["config"]["clock"] == "real" else "is paused"
    return f"{ended.guest_id} {does} on {where.destination} now"


def _notifier(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, soft_wrap=True)


def _show(finished: Finished, console: Console) -> None:
    document = finished.document
    if document["rounds"]:
        console.print(rounds(document["rounds"]))
        console.print()
        console.print(summary([document], [_title(document)]))
    if finished.note:
        stderr_console().print(finished.note, markup=False, soft_wrap=True)


def _say_where_the_flow_is(options: MigrationOptions, *, completed: bool) -> None:
    if options.flow is None or not completed:
        return
    line = f"flow in {options.flow}"
    if options.source is not None:
        line += " on the source host"
    elif not (Path(options.flow) / "flow.json").exists():
        line += " (incomplete: see the source host's log)"
    stderr_console().print(line, markup=False, highlight=False, soft_wrap=True)


def _title(document: Document) -> str:
    """What was migrated, in a few words."""
    config = document["config"]
    load = config["trace"]["file"] if config["trace"] else _load(str(config["workload"]))
    logged = "PML" if config["pml"] else f"groups of {config['group_pages']}"
    ways = f"{config['hypervisor']}, {config['paging']}, {config['clean']}"
    if config["tracking"] is not None:
        ways = f"{config['kind']}, {config['tracking']}"
    return f"{load}\n{ways}, {logged}\n{config['clock']} clock"


def _load(spec: str) -> str:
    """A workload by its name and, where it is not the usual one, its rate."""
    # Here and not above: the command line reads this file at each start.
    from paging_core.workloads.catalog import parse_spec

    name, _, _ = spec.partition(":")
    rate = parse_spec(spec)[1].get("write_rate")
    usual = parse_spec(name)[1].get("write_rate")
    return name if rate == usual else f"{name}, {rate:,.0f} writes/s"


def _whereabouts(client: SourceClient, ended: Ended, where: Hosts) -> str:
    """Where the guest is now, and what can be done about it there."""
    guest_id = ended.guest_id
    try:
        status = client.guest(guest_id)
    except NotFound:
        return "no guest was booted"
    except PageferryError as error:
        if where.ours:
            return "the guest is gone: it lived in a host of this command"
        return f"what became of {guest_id} is not known: {error}"
    said = of_state(status.state)
    if where.ours:
        # To look at the guest, or to try again, needs hosts that stay.
        return f"{said}, and ends with it: the hosts were this command's own"
    return f"{said}; {_what_next(status, ended, where)}"


def _what_next(status: common_pb2.GuestStatus, ended: Ended, where: Hosts) -> str:
    match status.state:
        case common_pb2.GUEST_STATE_IN_DOUBT:
            ask = f"pageferry migrations {where.source} resolve {ended.status.migration_id}"
            return f"ask the destination again with: {ask}"
        case common_pb2.GUEST_STATE_RUNNING | common_pb2.GUEST_STATE_PAUSED:
            return (
                f"migrate it again with: pageferry migrate --guest {ended.guest_id} "
                f"--source {where.source} --dest {where.destination}"
            )
        case _:
            return f"its name is {ended.guest_id}"
