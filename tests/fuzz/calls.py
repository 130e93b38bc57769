"""What one host says to another, and to the client of a migration."""

from __future__ import annotations

import io
import struct
from typing import Any, NoReturn, cast

import grpc
from google.protobuf.message import DecodeError
from rich.console import Console

from dest_host.limits import Limits
from dest_host.receiver import Receiver
from dest_host.service import DestinationService
from pageferry import results
from pageferry.document import OUTCOMES, document_of
from pageferry.progress import LiveProgress, PlainProgress
from pageferry.tables import rounds, summary
from pageferry.v1.destination_pb2 import CommitRequest, PrepareRequest
from pageferry.v1.source_pb2 import MigrationStatus
from paging_core.config import GuestConfig
from paging_core.errors import PageferryError
from tests.fuzz.refusals import refusals, scratch
from wire.hosting.guests.kinds import Kinds
from wire.replies import clean_reply
from wire.version import contract_message

MIB = 1 << 20
GUEST = GuestConfig(16 * MIB, workload="idle")


class Context:
    """Of a call on this machine, as far as the service asks."""

    def auth_context(self) -> dict[str, Any]:
        return {}

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise AssertionError(f"{code} {details}: errors leave as exceptions")


def prepare(data: bytes) -> None:
    """The length of a Prepare, the Prepare, and a Commit for it."""
    (size,) = struct.unpack("<H", data[:2].ljust(2, b"\0"))
    try:
        offer = PrepareRequest.FromString(data[2 : 2 + size])
        commit = CommitRequest.FromString(data[2 + size :])
    except DecodeError:
        return
    offer.version.CopyFrom(contract_message())
    limits = Limits(max_guest_bytes=16 * MIB, max_total_bytes=16 * MIB)
    receiver = Receiver(limits, Kinds(trace_dir=scratch()))
    service, context = DestinationService(receiver), cast("grpc.ServicerContext", Context())
    try:
        with refusals():
            service.Prepare(offer, context)
            commit.migration_id = offer.migration_id
            service.Commit(commit, context)
    finally:
        receiver.close()


def replies(data: bytes) -> None:
    """A report goes through everything that shows it."""
    try:
        status = clean_reply(MigrationStatus.FromString(data))
    except DecodeError:
        return
    if status.state not in OUTCOMES:
        status.state = next(iter(OUTCOMES))
    console = Console(file=io.StringIO(), width=100)
    PlainProgress(console).update(status)
    live = LiveProgress(console)
    live.update(status)
    console.print(live._render())
    try:
        document = document_of(status, GUEST)
    except PageferryError:
        return
    console.print(rounds(document["rounds"]))
    console.print(summary([document], ["one"]))
    path = scratch() / "result.json"
    results.write(document, str(path))
    with refusals():  # a request of another than ours may have no link
        results.read(path)
