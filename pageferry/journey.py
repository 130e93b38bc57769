"""One migration from boot to outcome, as seen by the user who asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from pageferry.document import OUTCOMES
from pageferry.interrupts import Interrupted, Interrupts
from pageferry.progress import Progress
from pageferry.request import MigrationOptions
from pageferry.source_client import SourceClient
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.errors import HostUnreachable, PageferryError
from paging_core.units import format_bytes
from wire.convert import guest_spec


@dataclass(frozen=True)
class Watcher:
    """The user who waits.

    Attributes:
        progress: shows them how far it is.
        notify: tells them something else, in one line.
        interrupts: their Ctrl-C.
    """

    progress: Progress
    notify: Callable[[str], None]
    interrupts: Interrupts


@dataclass(frozen=True)
class Ended:
    """How a migration ended.

    Attributes:
        status: its last status.
        guest_id: the guest's name on the hosts.
        interrupted: the signal that asked for the end, None if none came.
    """

    status: pb.MigrationStatus
    guest_id: str
    interrupted: Interrupted | None = None


def travel(
    client: SourceClient,
    destination: str,
    guest: GuestConfig,
    options: MigrationOptions,
    watcher: Watcher,
) -> Ended:
    """Boot a guest on the source, or take the one that is named, migrate and follow it to the end.

    Whatever a host refuses or fails at is an outcome, not an exception. The first Ctrl-C
    cancels the migration; a second one raises `Interrupted`.

    Raises:
        Interrupted: before the migration began, or for the second time.
    """
    guest_id = options.guest or f"guest-{uuid4().hex[:8]}"
    request = options.migrate_request(guest_id, destination)
    latest = pb.MigrationStatus(guest_id=guest_id, destination=destination, request=request)
    try:
        if options.guest is None:
            watcher.progress.doing(f"booting a guest of {format_bytes(guest.memory_bytes)}")
            client.create_guest(guest_spec(guest_id, guest))
            request.let_run = True
        with watcher.interrupts.held_back():
            latest = client.migrate(request)
    except PageferryError as error:
        return Ended(_failed(latest, error), guest_id)
    return _follow(client, latest, watcher)


def _follow(client: SourceClient, started: pb.MigrationStatus, watcher: Watcher) -> Ended:
    try:
        return Ended(_watch(client, started, watcher.progress), started.guest_id)
    except Interrupted as interrupted:
        watcher.notify("cancelling the migration; press Ctrl-C again to stop at once")
        try:
            client.cancel(started.migration_id)
        except PageferryError as error:
            watcher.notify(f"it cannot be cancelled any more: {error}")
        return Ended(_watch(client, started, watcher.progress), started.guest_id, interrupted)


def _watch(
    client: SourceClient, started: pb.MigrationStatus, progress: Progress
) -> pb.MigrationStatus:
    latest = started
    try:
        for latest in client.watch(started.migration_id):
            progress.update(latest)
    except PageferryError as error:
        return _failed(latest, error)
    if latest.state in OUTCOMES:
        return latest
    silent = HostUnreachable(
        f"the host at {client.address} ended the report before the migration came to an end; ask "
        f"it how it stands: pageferry migrations {client.address}"
    )
    return _failed(latest, silent)


def _failed(latest: pb.MigrationStatus, error: PageferryError) -> pb.MigrationStatus:
    """What was known last, with what went wrong; a commit in doubt stays in doubt."""
    status = pb.MigrationStatus()
    status.CopyFrom(latest)
    if status.state != pb.MIGRATION_STATE_IN_DOUBT:
        status.state = pb.MIGRATION_STATE_FAILED
    status.error_status = error.grpc_status
    status.error = str(error)
    return status
