"""A host that is told to stop: what is under way ends first, and where each guest is, is said."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import (
    CALL_S,
    DEADLINE_S,
    Destination,
    Source,
    fails_with,
    new_name,
    request,
    spec,
    start,
    until,
)
from tests.journey.relay import Hold, Relay, cut


@contextmanager
def draining(log: Path, drain: str) -> Iterator[Source]:
    """A source of its own, which a test stops."""
    with log.open("wb") as file:
        source = Source(start("source_host", "--drain", drain, log=file))
        with source:
            yield source


def told_to_stop(source: Source) -> None:
    source.process.process.send_signal(signal.SIGTERM)


def ended(source: Source) -> int:
    return source.process.process.wait(DEADLINE_S)


def lines(log: Path, event: str) -> list[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if event in line]


@pytest.fixture(scope="module")
def destination() -> Iterator[Destination]:
    with Destination(start("dest_host")) as serving:
        yield serving


def test_a_migration_under_way_ends_first(destination: Destination, tmp_path: Path) -> None:
    log = tmp_path / "source.log"
    moving, staying = new_name(), new_name()
    with draining(log, "2min") as source, Relay(destination.address) as relay:
        source.boot(spec(staying, "idle"))
        source.boot(spec(moving))
        with Hold() as hold:
            relay.on_batch = hold.in_round(2)
            migration = source.migrate(moving, relay.address)
            assert hold.reached.wait(CALL_S)
            watched = source.watch(migration)
            next(watched)
            told_to_stop(source)
            until(lambda: bool(lines(log, "draining")))
            with fails_with(grpc.StatusCode.UNAVAILABLE) as refused:
                source.stub.CreateGuest(spec(new_name(), "idle"), timeout=CALL_S)
            assert "stops" in refused.details
            with fails_with(grpc.StatusCode.UNAVAILABLE):
                source.stub.Migrate(request(staying, relay.address), timeout=CALL_S)
        (*_, last) = watched
        assert last.state == pb.MIGRATION_STATE_COMPLETED
        assert ended(source) == 0
    assert destination.guest(moving).memory_digest == last.memory_digest
    (safe,) = lines(log, "guest is safe elsewhere")
    assert moving in safe
    assert relay.address in safe
    (lost,) = lines(log, "guest ends with this host")
    assert staying in lost


@pytest.mark.parametrize(("drain", "signals"), [("2min", 2), ("0s", 1)])
def test_what_does_not_end_is_cancelled(
    destination: Destination, tmp_path: Path, drain: str, signals: int
) -> None:
    """After the time that it has, or at a second signal."""
    log = tmp_path / "source.log"
    name = new_name()
    with draining(log, drain) as source, Relay(destination.address) as relay, Hold() as hold:
        source.boot(spec(name))
        relay.before["CompareDigests"] = hold
        migration = source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        watched = source.watch(migration)
        next(watched)
        told_to_stop(source)
        if signals == 2:
            until(lambda: bool(lines(log, "draining")))
            told_to_stop(source)
        (*_, last) = watched
        assert last.state == pb.MIGRATION_STATE_CANCELLED
        assert ended(source) == 0
    (lost,) = lines(log, "guest ends with this host")
    assert name in lost
    assert "running" in lost
    destination.assert_never_had(name)


def test_a_guest_in_doubt_is_named_when_its_host_ends(
    destination: Destination, tmp_path: Path
) -> None:
    log = tmp_path / "source.log"
    name = new_name()

    with draining(log, "0s") as source, Relay(destination.address) as relay:
        source.boot(spec(name))
        relay.after["Commit"] = relay.before["GetIncoming"] = cut
        migration = source.migrate(name, relay.address)
        until(lambda: source.guest(name).state == common_pb2.GUEST_STATE_IN_DOUBT)
        told_to_stop(source)
        assert ended(source) == 0
    (doubt,) = lines(log, "guest in doubt")
    for what in (name, migration, relay.address):
        assert what in doubt


def test_a_guest_whose_commit_is_not_answered_yet_is_in_doubt_too(
    destination: Destination, tmp_path: Path
) -> None:
    """To say that it is lost would have it booted a second time."""
    log = tmp_path / "source.log"
    name, staying = new_name(), new_name()
    with draining(log, "0s") as source, Relay(destination.address) as relay, Hold() as hold:
        source.boot(spec(name))
        source.boot(spec(staying, "idle"))
        relay.after["Commit"] = hold
        migration = source.migrate(name, relay.address)
        assert hold.reached.wait(CALL_S)
        told_to_stop(source)
        assert ended(source) == 0
    destination.guest(name)
    (doubt,) = lines(log, "guest in doubt")
    for what in (name, migration, relay.address):
        assert what in doubt
    (lost,) = lines(log, "guest ends with this host")
    assert staying in lost


def test_what_arrived_ends_with_its_host(tmp_path: Path) -> None:
    log = tmp_path / "destination.log"
    name = new_name()
    with (
        log.open("wb") as file,
        Destination(start("dest_host", log=file)) as destination,
        Source(start("source_host")) as source,
    ):
        source.boot(spec(name, "idle"))
        migration = source.migrate(name, destination.address)
        assert source.follow(migration).state == pb.MIGRATION_STATE_COMPLETED
        destination.process.process.send_signal(signal.SIGTERM)
        assert destination.process.process.wait(DEADLINE_S) == 0
    (lost,) = lines(log, "guest ends with this host")
    assert name in lost
    assert migration in lost
