"""Guests that replay a real program: they arrive, go on alike, and need their very trace."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import Pair, assert_goes_on, assert_same, new_name
from tests.paging_core.lackey_reference import import_text

SQLITE = Path(__file__).parents[2] / "examples" / "traces" / "sqlite.parquet"
MEMORY_BYTES = 16 << 20
ACCESSES_AFTERWARDS = 200_000
"""More than a lap of the trace."""


def replaying(trace: Path) -> common_pb2.GuestSpec:
    """A guest that replays a trace under shadow paging, in groups."""
    return common_pb2.GuestSpec(
        guest_id=new_name(),
        memory_bytes=MEMORY_BYTES,
        trace=str(trace),
        seed=3,
        tracker=common_pb2.TrackerConfig(
            paging=common_pb2.PAGING_SHADOW, group=common_pb2.GroupPolicy(frames=64)
        ),
    )


def test_a_program_goes_on_where_it_arrives(pair: Pair) -> None:
    guest = replaying(SQLITE)
    name = pair.source.boot(guest)
    begun = pair.source.migrate(
        name, pair.destination.address, link_bits_per_s=10**9, warmup_ns=50_000_000
    )
    status = pair.source.follow(begun)
    assert status.state == pb.MIGRATION_STATE_COMPLETED, status.error
    assert status.verified
    assert status.rounds[0].dirty_frames > 100
    arrived = pair.destination.guest(name)
    twin = pair.source.twin_at(guest, arrived.accesses)
    assert_same(arrived, twin)
    later = pair.destination.step(name, ACCESSES_AFTERWARDS)
    assert_same(later, pair.source.step(twin.guest_id, ACCESSES_AFTERWARDS))
    assert later.memory_digest != arrived.memory_digest


def test_a_trace_that_was_replaced_since_the_guest_booted(pair: Pair, tmp_path: Path) -> None:
    trace = tmp_path / "some.parquet"
    copyfile(SQLITE, trace)
    guest = replaying(trace)
    name = pair.source.boot(guest)
    import_text("I  00001000,3\n S 00002000,8\n", trace)
    status = pair.source.follow(pair.source.migrate(name, pair.destination.address))
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert status.error_status == "INVALID_ARGUMENT"
    assert "another one than was expected" in status.error
    pair.destination.assert_never_had(name)
    trace.unlink()
    copyfile(SQLITE, trace)
    assert_goes_on(pair.source, guest)
