"""The result of a migration as one JSON document, to be kept, compared and cited.

Built from the final `MigrationStatus` and pageferry's version alone. It holds nothing of the wall
clock, of addresses, ports or names that were made up for one run, so on the virtual clock the same
seed gives the same bytes. `schema/migration-v1.json` is its schema,
docs/result-document.md explains every field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Final, Literal, NotRequired, TypedDict, cast

from msgspec import Meta

from pageferry.command_line import command_of
from pageferry.configured import Configured, configured
from pageferry.price_range import Charged, charged_of
from pageferry.run_record import version
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig, GuestKind
from paging_core.costs import CostTable, Level
from paging_core.density import GROUPS, NOTHING, Written, mean_density
from paging_core.errors import PageferryError
from paging_core.events import Event
from paging_core.guest_accounts import FIXUP, accounts_of
from paging_core.units import NS_PER_S
from source_host.messages import plan_of
from source_host.precopy.plan import Plan

SCHEMA_NAME: Final = "pageferry.migration"
SCHEMA_VERSION: Final = 1

OUTCOMES: dict[pb.MigrationState.ValueType, Outcome] = {
    pb.MIGRATION_STATE_COMPLETED: "completed",
    pb.MIGRATION_STATE_CANCELLED: "cancelled",
    pb.MIGRATION_STATE_FAILED: "failed",
    pb.MIGRATION_STATE_IN_DOUBT: "in-doubt",
}
"""How a migration can end, by its last state."""
_DIGEST = Event.PAGE_DIGEST.name.lower()


Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
PerGroup = Annotated[float, Meta(ge=1)]
Outcome = Literal["completed", "cancelled", "failed", "in-doubt"]


def about(text: str) -> Meta:
    """What a field means, in the schema and on the page that is made from it."""
    return Meta(description=text)


class Schema(TypedDict):
    """Which schema the document follows."""

    name: Annotated[Literal["pageferry.migration"], about("Always this.")]
    version: Annotated[Literal[1], about("Of this schema, independent of pageferry's own version.")]


class Error(TypedDict):
    """Why a migration did not complete."""

    status: Annotated[str, about("Name of the gRPC status.")]
    message: Annotated[str, about("One line.")]


Touched = TypedDict(
    "Touched",
    {
        "4": Annotated[Count, about("Of 4 frames.")],
        "16": Annotated[Count, about("Of 16 frames.")],
        "64": Annotated[Count, about("Of 64 frames.")],
        "512": Annotated[Count, about("Of 512 frames.")],
    },
)
"""Groups with a written frame, by the sizes of `paging_core.density.GROUPS`."""


class Round(TypedDict):
    """One pre-copy round, or the stop-and-copy that ends them."""

    round: Annotated[int, Meta(ge=1, description="From 1.")]
    stop_and_copy: Annotated[bool, about("The last round, with the guest paused.")]
    to_send: Annotated[Count, about("Frames that the round set out to send.")]
    sent: Annotated[Count, about("Frames that crossed, as any kind.")]
    data: Annotated[Count, about("Of these: with their content.")]
    zero: Annotated[Count, about("Of these: all zero.")]
    suppressed: Annotated[
        Count, about("Of these: unchanged since last sent, so only a digest crossed.")
    ]
    skipped: Annotated[Count, about("Frames not sent because they were dirty again (xen-2009).")]
    falsely_dirty: Annotated[
        Count | None,
        about("Frames found dirty that nobody had written; null where only a model would know."),
    ]
    data_bytes: Annotated[Count, about("Content of the data frames before compression.")]
    wire_bytes: Annotated[Count, about("Messages as they were put on the link.")]
    duration_s: Annotated[Seconds, about("How long the round took.")]
    dirty: Annotated[Count, about("Frames found dirty by the clean that ended the round.")]
    fault_count: Annotated[
        Count,
        about(
            "Shadow faults fixed, as Xen's domctl returns it with that clean; emulated writes are "
            "none."
        ),
    ]
    clean_ns: Annotated[Count, about("How long that clean stalled the guest.")]
    written: NotRequired[
        Annotated[
            Count,
            about("Frames really written until that clean; absent in documents of early versions."),
        ]
    ]
    touched: NotRequired[
        Annotated[Touched, about("Aligned groups in which they lie, by size; absent likewise.")]
    ]
    repair: NotRequired[
        Annotated[bool, about("It sent again what the proof found different; absent otherwise.")]
    ]


Faults = dict[str, Count]
"""By kind: `Accounts.faults` of the kind of guest, and their total."""
Times = dict[str, int]
"""By cause: `Accounts.causes` of the kind of guest, the base, and what no cause explains."""


class Repriced(TypedDict):
    """What the events of this run take at one end of the intervals of their prices."""

    slowdown: Annotated[float | None, about("As of the guest.")]
    time_ns: Annotated[Times, about("As of the guest.")]
    costs_ns: Annotated[dict[str, float], about("The prices.")]


class PriceRange(TypedDict):
    """The same events at the low and at the high end of all intervals."""

    low: Annotated[Repriced, about("Every event at its least.")]
    high: Annotated[Repriced, about("Every event at its most.")]


class GuestResult(TypedDict):
    """What the tracking did to the guest."""

    accesses: Annotated[Count, about("Accesses that the guest executed while it was tracked.")]
    slowdown: Annotated[
        float | None,
        about(
            "Guest time with tracking over that of an untracked twin that ran the same operations; "
            "null without a twin (the real clock, --no-twin)."
        ),
    ]
    time_ns: Annotated[
        Times,
        about(
            "Guest time by cause, which adds up to all of it. base is the untracked twin's time "
            "where there was a twin, and absent where nothing can say it."
        ),
    ]
    events: Annotated[dict[str, Count], about("Every event of the cost model, by name.")]
    events_by: NotRequired[
        Annotated[
            dict[str, dict[str, Count]],
            about(
                "The events by what they are charged to: a cause, base, sender; untracked are the "
                "twin's. Absent in documents of early versions."
            ),
        ]
    ]
    range: NotRequired[
        Annotated[
            PriceRange,
            about(
                "The same events at the ends of the intervals of prices. A run at those prices "
                "may differ where they feed back (virtual clock). Absent likewise."
            ),
        ]
    ]


Density = TypedDict(
    "Density",
    {
        "4": Annotated[PerGroup, about("Of a touched group of 4.")],
        "16": Annotated[PerGroup, about("Of a touched group of 16.")],
        "64": Annotated[PerGroup, about("Of a touched group of 64.")],
        "512": Annotated[PerGroup, about("Of a touched group of 512.")],
    },
)
"""Frames written per touched group, by the sizes of `paging_core.density.GROUPS`."""


class Pages(TypedDict):
    """What crossed, in frames."""

    sent: Annotated[
        Count, about("Frames that crossed, as any kind; a frame sent twice counts twice.")
    ]
    unique: Annotated[Count, about("Distinct frames sent at least once.")]
    resent: Annotated[Count, about("sent − unique.")]
    data: Annotated[Count, about("With their content.")]
    zero: Annotated[Count, about("All zero: no content.")]
    suppressed: Annotated[Count, about("Unchanged since last sent: only a digest.")]
    skipped: Annotated[Count, about("Not sent because they were dirty again (xen-2009).")]
    falsely_dirty: Annotated[
        Count | None,
        about(
            "Found dirty though nobody had written them: neighbours in a group; null where only a "
            "model would know."
        ),
    ]
    repaired: NotRequired[
        Annotated[
            int,
            Meta(
                ge=1,
                description="Sent again because the proof found them different; absent if none.",
            ),
        ]
    ]


class Bytes(TypedDict):
    """What crossed, in bytes: before encoding, and on the link."""

    raw: Annotated[Count, about("sent × 4096.")]
    wire: Annotated[Count, about("Messages as they were put on the link.")]


class DowntimeParts(TypedDict):
    """The guest's pause, part by part."""

    suspend: Annotated[Seconds, about("Pause and last clean.")]
    last_round: Annotated[Seconds, about("Sending what was still dirty.")]
    state: Annotated[Seconds, about("Sending the guest's own state.")]
    verify: Annotated[Seconds, about("Both digests and their comparison.")]
    commit: Annotated[Seconds, about("The commit and its answer.")]


class Time(TypedDict):
    """How long it took: all of it, and the guest's pause with its parts."""

    total_s: Annotated[
        Seconds, about("From the start of round 1 to the release on the destination.")
    ]
    downtime_s: Annotated[
        Seconds, about("From the guest's pause on the source to its release on the destination.")
    ]
    downtime_parts_s: Annotated[
        DowntimeParts, about("The downtime, split; the parts add up to it.")
    ]


class Run(TypedDict):
    """How the result came about."""

    pageferry: Annotated[str, about("Version of pageferry that made this document.")]
    command: Annotated[
        str,
        about(
            "Repeats the migration: made of config alone, a trace by its name without the "
            "directory, other costs as costs.toml."
        ),
    ]
    date: NotRequired[Annotated[str, about("When it ended, in UTC; only on the real clock.")]]
    machine: NotRequired[Annotated[str, about("Where the command ran; only on the real clock.")]]


class Document(TypedDict):
    """The whole result."""

    schema: Annotated[Schema, about("Which schema this document follows.")]
    run: NotRequired[
        Annotated[Run, about("How it came about; absent in documents of early versions.")]
    ]
    config: Configured
    outcome: Annotated[Outcome, about("How it ended.")]
    error: Annotated[Error | None, about("Why it did not complete; null when it did.")]
    verified: Annotated[
        bool, about("The destination compared all memory with the source and agreed.")
    ]
    memory_digest: Annotated[
        Digest, about("Root of the digest tree over all memory at the hand-over.")
    ]
    rounds: Annotated[
        list[Round],
        about("Rounds in order; the last one of a completed migration is the stop-and-copy."),
    ]
    faults: Annotated[
        Faults, about("Exits that the guest's accesses took, by kind, while it was tracked.")
    ]
    guest: Annotated[GuestResult, about("What the tracking did to the guest.")]
    density: NotRequired[
        Annotated[
            Density | None,
            about(
                "Frames written per aligned group in which any was, the mean over the rounds in "
                "which anything was written; null if nothing was, absent in documents of early "
                "versions. The load's own: true writes, whatever the tracker marked."
            ),
        ]
    ]
    pages: Annotated[Pages, about("What crossed, in frames of 4096 bytes.")]
    bytes: Annotated[Bytes, about("What crossed, in bytes.")]
    time: Annotated[Time, about("How long it took, in the clock of the migration.")]


def document_of(
    status: pb.MigrationStatus,
    guest: GuestConfig,
    trace_digest: int | None = None,
    plan: Plan | None = None,
) -> Document:
    """The result document of a migration that ended.

    Args:
        status: the last status of the migration.
        guest: the guest as it was configured, every default filled in.
        trace_digest: see `configured`.
        plan: what was asked for; None takes what the source says that it was.

    Raises:
        PageferryError: the status holds what no migration can have had.
    """
    config = configured(guest, plan or plan_of(status.request), trace_digest)
    return {
        "schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION},
        "run": {"pageferry": version(), "command": command_of(config)},
        "config": config,
        "outcome": OUTCOMES[status.state],
        "error": _error(status),
        "verified": status.verified,
        "memory_digest": f"{status.memory_digest:016x}",
        "rounds": [round_of(stats) for stats in status.rounds],
        "faults": _faults(status, guest.kind),
        "guest": _guest(status, guest),
        "density": _density(status),
        "pages": _pages(status.totals),
        "bytes": {"raw": status.totals.raw_bytes, "wire": status.totals.wire_bytes},
        "time": _time(status),
    }


def _error(status: pb.MigrationStatus) -> Error | None:
    if not status.error:
        return None
    message = status.error
    # Ports and names differ from run to run; what went wrong does not.
    for made_up, what in (
        (status.destination, "the destination"),
        (status.migration_id, "the migration"),
    ):
        if made_up:
            message = message.replace(made_up, what)
    return {"status": status.error_status, "message": message}


def round_of(stats: pb.RoundStats) -> Round:
    """One round as the document shows it.

    Raises:
        PageferryError: its numbers contradict each other.
    """
    shown: Round = {
        "round": stats.round,
        "stop_and_copy": stats.stop_and_copy,
        "to_send": stats.to_send_frames,
        "sent": stats.sent_frames,
        "data": stats.data_frames,
        "zero": stats.zero_frames,
        "suppressed": stats.suppressed_frames,
        "skipped": stats.skipped_frames,
        "falsely_dirty": _known(stats, stats.falsely_dirty_frames),
        "data_bytes": stats.raw_bytes,
        "wire_bytes": stats.wire_bytes,
        "duration_s": stats.duration_ns / NS_PER_S,
        "dirty": stats.dirty_frames,
        "fault_count": stats.fault_count,
        "clean_ns": stats.clean_ns,
    }
    if stats.touched_groups:  # an older source says nothing
        written = _written(stats)
        shown["written"] = written.frames
        shown["touched"] = cast("Touched", _by_size(written.groups))
    if stats.repair:
        shown["repair"] = True
    return shown


def _known(message: pb.RoundStats | pb.MigrationTotals, falsely_dirty: int) -> int | None:
    return falsely_dirty if message.HasField("falsely_dirty_frames") else None


def _faults(status: pb.MigrationStatus, kind: GuestKind) -> dict[str, int]:
    faults = {name: status.cost.faults.get(name, 0) for name in accounts_of(kind).faults}
    faults["total"] = sum(count for name, count in faults.items() if name != FIXUP)
    return faults


def _guest(status: pb.MigrationStatus, guest: GuestConfig) -> GuestResult:
    cost, costs = status.cost, guest.costs
    if not 0 <= cost.slowdown < math.inf:
        raise PageferryError(
            f"the source host says that the guest took {cost.slowdown} times as long; it is not "
            "pageferry's, or what it says was damaged on the way"
        )
    charged = charged_of(cost, guest.kind)
    events = {event: n for event, n in cost.events.items() if event != _DIGEST}
    by = {name: dict(sorted(counts.items())) for name, counts in sorted(charged.events.items())}
    digested = _digested(status)
    if digested:
        by["sender"] = {_DIGEST: digested}
    return {
        "accesses": cost.accesses,
        "slowdown": charged.slowdown,
        "time_ns": charged.by_cause(),
        "events": dict(sorted({**events, _DIGEST: digested}.items())),
        "events_by": by,
        "range": {
            "low": _repriced(charged, costs, Level.LOW),
            "high": _repriced(charged, costs, Level.HIGH),
        },
    }


def _digested(status: pb.MigrationStatus) -> int:
    """Frames that the sender digested: of what it sent, all but zeros."""
    if status.request.no_suppress:
        return 0
    return status.totals.data_frames + status.totals.suppressed_frames


def _repriced(charged: Charged, costs: CostTable, level: Level) -> Repriced:
    there = charged.at(costs, level)
    return {
        "slowdown": there.slowdown,
        "time_ns": there.by_cause(),
        "costs_ns": costs.at(level).prices_ns(),
    }


def _written(stats: pb.RoundStats) -> Written:
    frames, groups = stats.written_frames, tuple(stats.touched_groups)
    if not groups:  # of an older source
        return NOTHING
    least = 1 if frames else 0
    if len(groups) != len(GROUPS) or not all(least <= n <= frames for n in groups):
        raise PageferryError(
            f"the source host says that {frames} written frames lie in {groups} groups; it is "
            "not pageferry's, or what it says was damaged on the way"
        )
    return Written(frames, groups)


def _density(status: pb.MigrationStatus) -> Density | None:
    found = mean_density(map(_written, status.rounds))
    return None if found is None else cast("Density", _by_size(found))


def _by_size(values: Iterable[float]) -> dict[str, float]:
    return dict(zip(map(str, GROUPS), values, strict=True))


def _pages(totals: pb.MigrationTotals) -> Pages:
    pages: Pages = {
        "sent": totals.sent_frames,
        "unique": totals.unique_frames,
        "resent": totals.resent_frames,
        "data": totals.data_frames,
        "zero": totals.zero_frames,
        "suppressed": totals.suppressed_frames,
        "skipped": totals.skipped_frames,
        "falsely_dirty": _known(totals, totals.falsely_dirty_frames),
    }
    if totals.repaired_frames:
        pages["repaired"] = totals.repaired_frames
    return pages


def _time(status: pb.MigrationStatus) -> Time:
    down = status.downtime
    return {
        "total_s": status.totals.total_ns / NS_PER_S,
        "downtime_s": down.total_ns / NS_PER_S,
        "downtime_parts_s": {
            "suspend": down.suspend_ns / NS_PER_S,
            "last_round": down.last_round_ns / NS_PER_S,
            "state": down.state_ns / NS_PER_S,
            "verify": down.verify_ns / NS_PER_S,
            "commit": down.commit_ns / NS_PER_S,
        },
    }
