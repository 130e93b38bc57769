"""Hand-made statuses of a migration, as the source host would send them."""

from __future__ import annotations

from pageferry.request import MigrationOptions
from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GroupPolicy, GuestConfig, TrackerConfig

GUEST = GuestConfig(16 << 20, TrackerConfig(group=GroupPolicy(8)), workload="hotcold")
REQUEST = MigrationOptions.of(memory_bytes=16 << 20).migrate_request("g", "127.0.0.1:4321")


def first_round() -> pb.RoundStats:
    """Everything crosses; the guest wrote 300 frames meanwhile and groups opened 40 more."""
    return pb.RoundStats(
        round=1,
        to_send_frames=4096,
        sent_frames=4096,
        data_frames=2730,
        zero_frames=1366,
        raw_bytes=2730 * 4096,
        wire_bytes=6_000_000,
        duration_ns=48_000_000,
        dirty_frames=340,
        falsely_dirty_frames=40,
        fault_count=55,
        clean_ns=90_000,
        written_frames=300,
        touched_groups=[150, 100, 50, 8],
    )


def last_round() -> pb.RoundStats:
    """The stop-and-copy: the falsely dirty frames cross as digests."""
    return pb.RoundStats(
        round=2,
        stop_and_copy=True,
        to_send_frames=340,
        sent_frames=340,
        data_frames=300,
        suppressed_frames=40,
        raw_bytes=300 * 4096,
        wire_bytes=700_000,
        duration_ns=5_600_000,
        touched_groups=[0, 0, 0, 0],
    )


def completed() -> pb.MigrationStatus:
    """A migration of one round and a stop-and-copy that was verified and committed."""
    return pb.MigrationStatus(
        migration_id="m-made-up",
        guest_id="g",
        destination="127.0.0.1:4321",
        state=pb.MIGRATION_STATE_COMPLETED,
        rounds=[first_round(), last_round()],
        totals=pb.MigrationTotals(
            sent_frames=4436,
            unique_frames=4096,
            resent_frames=340,
            data_frames=3030,
            zero_frames=1366,
            suppressed_frames=40,
            falsely_dirty_frames=40,
            raw_bytes=4436 * 4096,
            wire_bytes=6_700_000,
            total_ns=54_000_000,
        ),
        downtime=pb.Downtime(
            suspend_ns=90_000,
            last_round_ns=5_600_000,
            state_ns=100_000,
            verify_ns=200_000,
            commit_ns=200_000,
            total_ns=6_190_000,
        ),
        cost=common_pb2.GuestCost(
            faults={"write_build": 10, "write_protect": 45, "read_build": 20, "fixup": 50},
            events={"fixup": 50, "exit": 75},
            tracking_ns={"fixup": 75_000, "rebuild": 30_000, "group": 3_500},
            base_ns=1_010_000,
            accesses=500_000,
            slowdown=1.1185,
            untracked_ns=1_000_000,
            events_by=[
                common_pb2.ChargedEvents(charged_to="base", counts={"access": 500_000}),
                common_pb2.ChargedEvents(charged_to="fixup", counts={"fixup": 50, "exit": 50}),
                common_pb2.ChargedEvents(charged_to="untracked", counts={"access": 500_000}),
            ],
        ),
        verified=True,
        request=REQUEST,
        memory_digest=0xABCDEF,
    )


def repaired() -> pb.MigrationStatus:
    """The same, where the proof had found three frames different."""
    status = completed()
    status.rounds.add(
        round=3,
        stop_and_copy=True,
        to_send_frames=3,
        sent_frames=3,
        data_frames=3,
        raw_bytes=3 * 4096,
        wire_bytes=12_400,
        duration_ns=100_000,
        repair=True,
    )
    status.totals.repaired_frames = 3
    return status


def under_way() -> pb.MigrationStatus:
    """In the middle of the second pre-copy round."""
    return pb.MigrationStatus(
        state=pb.MIGRATION_STATE_PRE_COPY,
        rounds=[first_round()],
        current=pb.RoundStats(round=2, to_send_frames=340, sent_frames=85, wire_bytes=175_000),
        totals=pb.MigrationTotals(total_ns=48_000_000 + 90_000 + 1_400_000),
        estimated_downtime_ns=5_500_000,
    )


def failed() -> pb.MigrationStatus:
    """The destination was never there."""
    return pb.MigrationStatus(
        destination="127.0.0.1:4321",
        state=pb.MIGRATION_STATE_FAILED,
        error_status="UNAVAILABLE",
        error="no destination host answers at 127.0.0.1:4321; start one with dest-host serve",
        request=REQUEST,
    )
