"""`pageferry guests` and `pageferry migrations`: operating hosts that run already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import Pair, new_name, spec, until
from tests.journey.relay import Relay, cut
from tests.pageferry.hosts import pageferry


@pytest.fixture(scope="module")
def serving() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.fixture
def pair(serving: Pair) -> Iterator[Pair]:
    yield serving
    serving.forget_guests()


def listed(what: str, address: str) -> dict[str, dict[str, Any]]:
    """Rows by the name in their first column."""
    done = pageferry(what, address, "--json")
    assert done.returncode == 0, done.stderr
    return {next(iter(row.values())): row for row in json.loads(done.stdout)[what]}


def test_a_guest_and_its_migration_are_seen_at_both_ends(pair: Pair) -> None:
    source, destination = pair.source, pair.destination
    name = source.boot(spec(new_name()))
    assert listed("guests", source.address)[name]["state"] == "paused"
    status = source.follow(migration := source.migrate(name, destination.address))
    gone = listed("guests", source.address)[name]
    assert (gone["state"], gone["message"]) == ("moved", f"moved to {destination.address}")
    arrived = listed("guests", destination.address)[name]
    assert (arrived["state"], arrived["memory_bytes"]) == ("paused", spec(name).memory_bytes)
    assert arrived["accesses"] == gone["accesses"] > 0
    row = listed("migrations", source.address)[migration]
    assert row == {
        "migration": migration,
        "guest": name,
        "destination": destination.address,
        "state": "completed",
        "rounds": len(status.rounds),
        "wire_bytes": status.totals.wire_bytes,
        "downtime_ns": status.downtime.total_ns,
        "where": "the guest is at the destination",
        "error": "",
    }
    for what, address in (("guests", destination.address), ("migrations", source.address)):
        table = pageferry(what, address)
        assert name in table.stdout
        assert "MiB" in table.stdout


def test_guests_are_started_paused_and_deleted(pair: Pair) -> None:
    source, destination = pair.source, pair.destination
    name = source.boot(spec(new_name()), running=False)
    source.follow(source.migrate(name, destination.address))
    for action, said, state in (
        ("start", "started", common_pb2.GUEST_STATE_RUNNING),
        ("pause", "paused", common_pb2.GUEST_STATE_PAUSED),
    ):
        done = pageferry("guests", destination.address, action, name)
        assert (done.returncode, done.stdout) == (0, f"{name} {said}\n"), done.stderr
        assert destination.guest(name).state == state
    # One that is not there does not keep the others from it.
    done = pageferry("guests", destination.address, "delete", "nobody", name)
    assert (done.returncode, done.stdout) == (1, f"{name} deleted\n")
    assert "no guest 'nobody'" in done.stderr
    destination.assert_never_had(name)
    assert pageferry("guests", source.address, "delete", name).returncode == 0
    assert name not in listed("guests", source.address)


def test_nothing_there(pair: Pair) -> None:
    done = pageferry("guests", pair.destination.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no guests\n")


def test_a_migration_is_cancelled(pair: Pair) -> None:
    source = pair.source
    name = source.boot(spec(new_name(), "uniform:wss=6MiB,write_rate=20M"))
    migration = source.migrate(
        name, pair.destination.address, clock=common_pb2.CLOCK_REAL, policy=pb.POLICY_QEMU,
        downtime_limit_ns=1, max_rounds=10_000,
    )  # fmt: skip
    assert listed("migrations", source.address)[migration]["state"] != "completed"
    refused = pageferry("guests", source.address, "delete", name)
    assert refused.returncode == 1
    assert f"while migration {migration!r} needs it" in refused.stderr
    done = pageferry("migrations", source.address, "cancel", migration)
    assert (done.returncode, done.stdout) == (0, f"{migration} is being cancelled\n")
    assert source.follow(migration).state == pb.MIGRATION_STATE_CANCELLED
    assert source.guest(name).state == common_pb2.GUEST_STATE_RUNNING


def test_a_guest_in_doubt_is_resolved(pair: Pair) -> None:
    """The answer to its commit is lost, and the destination cannot be asked for a while."""
    source = pair.source
    name = source.boot(spec(new_name()))
    with Relay(pair.destination.address) as relay:
        relay.after["Commit"] = relay.before["GetIncoming"] = cut
        migration = source.migrate(name, relay.address)
        until(lambda: listed("migrations", source.address)[migration]["state"] == "in_doubt")
        assert listed("guests", source.address)[name]["state"] == "in_doubt"
        done = pageferry("migrations", source.address, "resolve", migration)
        assert done.returncode == 1
        assert "answered before and does not any more" in done.stderr
        del relay.before["GetIncoming"]
        pageferry("migrations", source.address, "resolve", migration)  # or it asked by itself
        assert listed("guests", source.address)[name]["state"] == "moved"
        assert name in listed("guests", pair.destination.address)


@pytest.mark.parametrize("word", [["resolve"], []], ids=["with the word", "without it"])
@pytest.mark.parametrize("decision", ["keep", "release"])
def test_a_guest_in_doubt_is_decided(pair: Pair, decision: str, word: list[str]) -> None:
    source = pair.source
    name = source.boot(spec(new_name()))
    with Relay(pair.destination.address) as relay:
        relay.after["Commit"] = relay.before["GetIncoming"] = cut
        migration = source.migrate(name, relay.address)
        until(lambda: listed("migrations", source.address)[migration]["state"] == "in_doubt")
        arguments = [source.address, *word, migration, "--resolve", decision]
        done = pageferry("migrations", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{migration} decided")
    state = {"keep": "running", "release": "moved"}[decision]
    assert listed("guests", source.address)[name]["state"] == state
    assert pageferry("guests", source.address, "delete", name).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["migrations", "127.0.0.1:1", "--resolve", "keep"], 2, "name them"),
        (["migrations", "127.0.0.1:1", "cancel", "x", "--resolve", "keep"], 2, "in doubt"),
        (["migrations", "127.0.0.1:1", "resolve", "--resolve", "keep"], 2, "name the migrations"),
        (["migrations", "127.0.0.1:1", "x", "--resolve", "drop"], 2, "'drop' is not one of"),
        (["guests"], 2, "Missing argument 'ADDRESS'"),
        (["guests", "127.0.0.1:1", "pause"], 2, "name the guests to pause"),
        (["migrations", "127.0.0.1:1", "stop", "x"], 2, "'stop' is not one of"),
        (["guests", "rack1:50052"], 2, "give --tls DIR"),
        (["guests", "rack1"], 2, "neither host:port nor unix:path"),
        (["guests", "127.0.0.1:1", "--tls", "nowhere"], 2, "nowhere/tls.crt is missing"),
        (["guests", "127.0.0.1:1"], 1, "no host answers at 127.0.0.1:1"),
    ],
)
def test_bad_input(arguments: list[str], code: int, says: str) -> None:
    done = pageferry(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_proxy_for_the_web_is_not_asked(pair: Pair) -> None:
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    done = pageferry("guests", pair.source.address, env=nobody | {"no_proxy": "", "NO_PROXY": ""})
    assert done.returncode == 0, done.stderr


def test_a_destination_has_no_migrations_to_list(pair: Pair) -> None:
    done = pageferry("migrations", pair.destination.address)
    assert done.returncode == 1
    assert f"{pair.destination.address} does not serve this call" in done.stderr
    assert "a host of the other kind" in done.stderr
