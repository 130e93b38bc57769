"""The result of a migration as one JSON document: what a person keeps, compares and cites.

Built from the final `MigrationStatus` alone. It holds nothing of the wall clock, of
addresses, ports or names that were made up for one run, so on the virtual clock the same
seed gives the same bytes. `schema/migration-v1.json` is its schema,
docs/result-document.md explains every field.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from pageferry.configured import Configured, configured
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.events import CAUSES, FAULT_KINDS, Fault
from paging_core.units import NS_PER_S

SCHEMA_NAME = "pageferry.migration"
SCHEMA_VERSION = 1

OUTCOMES = {
    pb.MIGRATION_STATE_COMPLETED: "completed",
    pb.MIGRATION_STATE_CANCELLED: "cancelled",
    pb.MIGRATION_STATE_FAILED: "failed",
    pb.MIGRATION_STATE_IN_DOUBT: "in-doubt",
}
"""How a migration can end, by its last state."""


class Schema(TypedDict):
    """Which schema the document follows."""

    name: str
    version: int


class Error(TypedDict):
    """Why a migration did not complete."""

    status: str
    message: str


class Round(TypedDict):
    """One pre-copy round, or the stop-and-copy that ends them."""

    round: int
    stop_and_copy: bool
    to_send: int
    sent: int
    data: int
    zero: int
    suppressed: int
    skipped: int
    falsely_dirty: int
    data_bytes: int
    wire_bytes: int
    duration_s: float
    dirty: int
    fault_count: int
    clean_ns: int
    repair: NotRequired[bool]


class GuestResult(TypedDict):
    """What the tracking did to the guest."""

    accesses: int
    slowdown: float
    time_ns: dict[str, int]
    events: dict[str, int]


class Pages(TypedDict):
    """What crossed, in frames."""

    sent: int
    unique: int
    resent: int
    data: int
    zero: int
    suppressed: int
    skipped: int
    falsely_dirty: int
    repaired: NotRequired[int]


class Bytes(TypedDict):
    """What crossed, in bytes: before encoding, and on the link."""

    raw: int
    wire: int


class Time(TypedDict):
    """How long it took: all of it, and the guest's pause with its parts."""

    total_s: float
    downtime_s: float
    downtime_parts_s: dict[str, float]


class Document(TypedDict):
    """The whole result."""

    schema: Schema
    config: Configured
    outcome: str
    error: Error | None
    verified: bool
    memory_digest: str
    rounds: list[Round]
    faults: dict[str, int]
    guest: GuestResult
    pages: Pages
    bytes: Bytes
    time: Time


def document_of(status: pb.MigrationStatus, guest: GuestConfig) -> Document:
    """The result document of a migration that ended.

    Args:
        status: the last status of the migration.
        guest: the guest as it was configured, every default filled in.
    """
    return {
        "schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION},
        "config": configured(guest, status.request),
        "outcome": OUTCOMES[status.state],
        "error": _error(status),
        "verified": status.verified,
        "memory_digest": f"{status.memory_digest:016x}",
        "rounds": [round_of(stats) for stats in status.rounds],
        "faults": _faults(status),
        "guest": _guest(status),
        "pages": _pages(status.totals),
        "bytes": {"raw": status.totals.raw_bytes, "wire": status.totals.wire_bytes},
        "time": _time(status),
    }


def _error(status: pb.MigrationStatus) -> Error | None:
    if not status.error:
        return None
    message = status.error
    if status.destination:
        # Ports differ from run to run; what went wrong does not.
        message = message.replace(status.destination, "the destination")
    return {"status": status.error_status, "message": message}


def round_of(stats: pb.RoundStats) -> Round:
    """One round as the document shows it."""
    shown: Round = {
        "round": stats.round,
        "stop_and_copy": stats.stop_and_copy,
        "to_send": stats.to_send_frames,
        "sent": stats.sent_frames,
        "data": stats.data_frames,
        "zero": stats.zero_frames,
        "suppressed": stats.suppressed_frames,
        "skipped": stats.skipped_frames,
        "falsely_dirty": stats.falsely_dirty_frames,
        "data_bytes": stats.raw_bytes,
        "wire_bytes": stats.wire_bytes,
        "duration_s": stats.duration_ns / NS_PER_S,
        "dirty": stats.dirty_frames,
        "fault_count": stats.fault_count,
        "clean_ns": stats.clean_ns,
    }
    if stats.repair:
        shown["repair"] = True
    return shown


def _faults(status: pb.MigrationStatus) -> dict[str, int]:
    faults = {kind: status.cost.faults.get(kind, 0) for kind in FAULT_KINDS}
    fixup = Fault.FIXUP.name.lower()
    faults["total"] = sum(count for kind, count in faults.items() if kind != fixup)
    return faults


def _guest(status: pb.MigrationStatus) -> GuestResult:
    cost = status.cost
    time_ns = {"base": cost.base_ns}
    time_ns.update((cause, cost.tracking_ns.get(cause, 0)) for cause in CAUSES)
    return {
        "accesses": cost.accesses,
        "slowdown": cost.slowdown or 1.0,  # 0 on the wire: nothing ran
        "time_ns": time_ns,
        "events": dict(sorted(cost.events.items())),
    }


def _pages(totals: pb.MigrationTotals) -> Pages:
    pages: Pages = {
        "sent": totals.sent_frames,
        "unique": totals.unique_frames,
        "resent": totals.resent_frames,
        "data": totals.data_frames,
        "zero": totals.zero_frames,
        "suppressed": totals.suppressed_frames,
        "skipped": totals.skipped_frames,
        "falsely_dirty": totals.falsely_dirty_frames,
    }
    if totals.repaired_frames:
        pages["repaired"] = totals.repaired_frames
    return pages


def _time(status: pb.MigrationStatus) -> Time:
    down = status.downtime
    parts_ns = {
        "suspend": down.suspend_ns,
        "last_round": down.last_round_ns,
        "state": down.state_ns,
        "verify": down.verify_ns,
        "commit": down.commit_ns,
    }
    return {
        "total_s": status.totals.total_ns / NS_PER_S,
        "downtime_s": down.total_ns / NS_PER_S,
        "downtime_parts_s": {part: ns / NS_PER_S for part, ns in parts_ns.items()},
    }
