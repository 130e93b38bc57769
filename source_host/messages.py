"""The contract's messages, and what they mean here: the only place that knows both."""

from __future__ import annotations

from collections.abc import Mapping

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import BadOption
from source_host.migration import Resolution
from source_host.precopy.clock_name import ClockName
from source_host.precopy.link import Link
from source_host.precopy.plan import Plan
from source_host.precopy.report import Report
from source_host.precopy.results import Downtime, RoundStats, Totals
from source_host.states import MigrationState
from wire.convert import guest_cost
from wire.hosting.guests.service import guest_state as state_number
from wire.hosting.guests.states import GuestState
from wire.settings import fields_of, put
from wire.text import line

_RESOLUTIONS: Mapping[int, Resolution | None] = {
    pb.RESOLUTION_UNSPECIFIED: None,
    pb.RESOLUTION_KEEP: Resolution.KEEP,
    pb.RESOLUTION_RELEASE: Resolution.RELEASE,
}


def resolution_of(request: pb.MigrationRequest) -> Resolution | None:
    """What an operator decides about a commit in doubt; None asks the destination.

    Raises:
        BadOption: none of those that there are.
    """
    if request.resolution not in _RESOLUTIONS:
        raise BadOption(
            f"resolution {request.resolution} is none that this host knows; see source.proto"
        )
    return _RESOLUTIONS[request.resolution]


def plan_of(request: pb.MigrateRequest) -> Plan:
    """What is asked for.

    Raises:
        BadOption: a value outside its domain.
    """
    fields = fields_of(Plan, request)
    if fields.get("clock", ClockName.VIRTUAL) is ClockName.VIRTUAL:
        fields["link"] = Link(request.link_bits_per_s, request.latency_ns)
    return Plan(**fields)


def request_of(plan: Plan) -> pb.MigrateRequest:
    """What asks for a plan; `plan_of` reads an equal one back."""
    request = pb.MigrateRequest()
    put(plan, request)
    if plan.link is not None:
        request.link_bits_per_s = plan.link.bits_per_s
        request.latency_ns = plan.link.latency_ns
    return request


def filled_in(request: pb.MigrateRequest, plan: Plan) -> pb.MigrateRequest:
    """The same request with its defaults filled in."""
    filled = pb.MigrateRequest()
    filled.CopyFrom(request)
    filled.MergeFrom(request_of(plan))
    filled.max_downtime_ns = plan.most_downtime_ns
    filled.max_rounds = plan.make_policy().max_rounds
    return filled


def migration_status(
    migration_id: str,
    request: pb.MigrateRequest,
    guest: common_pb2.GuestSpec,
    report: Report,
    guest_state: GuestState,
) -> pb.MigrationStatus:
    """A report for the wire.

    Args:
        migration_id: names it.
        request: with defaults filled in.
        guest: what is moved.
        report: how it stands.
        guest_state: of the guest here.
    """
    error = report.error
    return pb.MigrationStatus(
        migration_id=migration_id,
        guest_id=request.guest_id,
        destination=request.destination,
        state=_migration_state(report.state),
        rounds=[_round(stats) for stats in report.rounds],
        current=_round(report.current) if report.current else None,
        totals=_totals(report.totals),
        downtime=_downtime(report.downtime) if report.downtime else None,
        cost=guest_cost(report.cost) if report.cost else None,
        verified=report.verified,
        error_status=error.grpc_status if error else "",
        error=line(str(error)) if error else "",
        request=request,
        guest=guest,
        memory_digest=report.memory_digest,
        estimated_downtime_ns=report.estimated_downtime_ns,
        guest_state=state_number(guest_state),
    )


def _migration_state(state: MigrationState) -> pb.MigrationState.ValueType:
    return pb.MigrationState.Value("MIGRATION_STATE_" + state.name)


def _round(stats: RoundStats) -> pb.RoundStats:
    return pb.RoundStats(
        round=stats.round,
        stop_and_copy=stats.stop_and_copy,
        to_send_frames=stats.to_send_frames,
        sent_frames=stats.sent_frames,
        data_frames=stats.data_frames,
        zero_frames=stats.zero_frames,
        suppressed_frames=stats.suppressed_frames,
        skipped_frames=stats.skipped_frames,
        falsely_dirty_frames=stats.falsely_dirty_frames,
        raw_bytes=stats.raw_bytes,
        wire_bytes=stats.wire_bytes,
        duration_ns=stats.duration_ns,
        dirty_frames=stats.dirty_frames,
        fault_count=stats.fault_count,
        clean_ns=stats.clean_ns,
        repair=stats.repair,
        written_frames=stats.written.frames if stats.written else 0,
        touched_groups=stats.written.groups if stats.written else (),
    )


def _totals(totals: Totals) -> pb.MigrationTotals:
    return pb.MigrationTotals(
        sent_frames=totals.sent_frames,
        unique_frames=totals.unique_frames,
        resent_frames=totals.resent_frames,
        data_frames=totals.data_frames,
        zero_frames=totals.zero_frames,
        suppressed_frames=totals.suppressed_frames,
        skipped_frames=totals.skipped_frames,
        falsely_dirty_frames=totals.falsely_dirty_frames,
        raw_bytes=totals.raw_bytes,
        wire_bytes=totals.wire_bytes,
        total_ns=totals.total_ns,
        repaired_frames=totals.repaired_frames,
    )


def _downtime(downtime: Downtime) -> pb.Downtime:
    return pb.Downtime(
        suspend_ns=downtime.suspend_ns,
        last_round_ns=downtime.last_round_ns,
        state_ns=downtime.state_ns,
        verify_ns=downtime.verify_ns,
        commit_ns=downtime.commit_ns,
        total_ns=downtime.total_ns,
    )
