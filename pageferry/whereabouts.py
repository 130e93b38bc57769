"""Where a guest is: the first question after a failure, answered in every outcome."""

from __future__ import annotations

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb

_AT_SOURCE = {
    common_pb2.GUEST_STATE_RUNNING: "the guest goes on at the source",
    common_pb2.GUEST_STATE_PAUSED: "the guest is at the source, paused",
    common_pb2.GUEST_STATE_CRASHED: "the guest is at the source, where its own kernel gave up",
    common_pb2.GUEST_STATE_IN_DOUBT: "the guest stands still at the source until it is known who "
    "has it",
    common_pb2.GUEST_STATE_MOVED: "the guest is at the destination",
}


def of_state(state: common_pb2.GuestState.ValueType) -> str:
    """Where a guest is, by its state at its source; empty of a state that is not known."""
    return _AT_SOURCE.get(state, "")


def of_migration(status: pb.MigrationStatus) -> str:
    """Where the guest of a migration was when its status was taken.

    A source of before 1.2 does not tell the guest's state; then the migration's has to do.
    """
    if status.guest_state:
        return of_state(status.guest_state)
    if status.state == pb.MIGRATION_STATE_COMPLETED:
        return of_state(common_pb2.GUEST_STATE_MOVED)
    if status.state == pb.MIGRATION_STATE_IN_DOUBT:
        return of_state(common_pb2.GUEST_STATE_IN_DOUBT)
    return "the guest is at the source"
