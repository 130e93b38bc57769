"""What operators do and what happens to them, between containers on a real engine."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pageferry.source_client import SourceClient
from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import PageferryError
from tests.containers.stack import BUSY, DESTINATION, Stack, boot, docker, endless, quick, until
from tests.pageferry.hosts import pageferry


@contextmanager
def under_way(
    stack: Stack, name: str
) -> Iterator[tuple[SourceClient, Iterator[pb.MigrationStatus]]]:
    """A migration that has sent its first rounds, and its pictures from now on."""
    with stack.operator() as client:
        boot(client, name, BUSY)
        pictures = client.watch(client.migrate(endless(name)).migration_id)
        for picture in pictures:
            if len(picture.rounds) > 2:
                break
        yield client, pictures


def settled(pictures: Iterator[pb.MigrationStatus]) -> pb.MigrationStatus:
    (*_, last) = pictures
    return last


def moves(client: SourceClient, name: str) -> None:
    """The guest can be migrated now, every page proved."""
    ended = settled(client.watch(client.migrate(quick(name)).migration_id))
    assert ended.state == pb.MIGRATION_STATE_COMPLETED, ended.error
    assert ended.verified


def test_the_whole_journey(stack: Stack, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    ended = pageferry(
        "migrate", "--source", stack.source, "--dest", DESTINATION,
        "--tls", str(stack.certs / "operator"), "--memory", "64MiB",
        "--workload", "hotcold:wss=16MiB", "--json", str(result),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    document = json.loads(result.read_text())
    assert document["outcome"] == "completed"
    assert "verified" in ended.stdout
    here = pageferry("guests", stack.destination, "--tls", str(stack.certs / "operator"), "--json")
    arrived = {row["guest"]: row["state"] for row in json.loads(here.stdout)["guests"]}
    (name,) = [name for name in arrived if f"{name} is paused on {DESTINATION} now" in ended.stderr]
    assert arrived[name] == "paused"
    for metric in ("pageferry_source_frames_sent_total", "pageferry_destination_frames_total"):
        until(lambda: sum(stack.query(metric)) >= 64 * 256, f"{metric} is scraped")  # noqa: B023
    until(lambda: stack.query("up") == [1, 1], "every target is up")


def test_prometheus_has_read_the_rules(stack: Stack) -> None:
    with urllib.request.urlopen(f"{stack.prometheus}/api/v1/rules", timeout=20) as answer:  # noqa: S310 - our own
        groups = json.load(answer)["data"]["groups"]
    rules = {rule["name"] for group in groups for rule in group["rules"]}
    assert {"PageferryVerifyFailed", "PageferryGuestOnBothHosts"} <= rules
    assert all(rule["health"] != "err" for group in groups for rule in group["rules"])


def test_a_trace_replayed_in_containers(stack: Stack) -> None:
    ended = pageferry(
        "migrate", "--source", stack.source, "--dest", DESTINATION,
        "--tls", str(stack.certs / "operator"), "--memory", "64MiB",
        "--trace", "/traces/redis.parquet", "--quiet",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_the_network_is_cut(stack: Stack) -> None:
    container = stack.container("destination")
    with under_way(stack, "cut") as (client, pictures):
        docker("network", "disconnect", stack.private, container)
        try:
            ended = settled(pictures)
            assert ended.state == pb.MIGRATION_STATE_FAILED
            assert ended.error_status == "UNAVAILABLE"
            assert client.guest("cut").state == common_pb2.GUEST_STATE_RUNNING
        finally:
            docker("network", "connect", "--alias", "destination", stack.private, container)
        until(lambda: reachable(client, "cut"), "the guest moves after all")


def reachable(client: SourceClient, name: str) -> bool:
    """Try to migrate; what was cut off before may still be reserved there for a while."""
    ended = settled(client.watch(client.migrate(quick(name)).migration_id))
    return ended.state == pb.MIGRATION_STATE_COMPLETED


def test_the_destination_is_killed(stack: Stack) -> None:
    with under_way(stack, "orphan") as (client, pictures):
        docker("kill", stack.container("destination"))
        ended = settled(pictures)
        assert ended.error_status == "UNAVAILABLE"
        assert client.guest("orphan").state == common_pb2.GUEST_STATE_RUNNING
        docker("start", stack.container("destination"))
        stack.wait_healthy("destination")
        moves(client, "orphan")


def test_the_source_is_killed(stack: Stack) -> None:
    with under_way(stack, "lost") as (client, pictures):
        docker("kill", stack.container("source"))
        with pytest.raises(PageferryError):
            settled(pictures)
        with pytest.raises(PageferryError):
            client.guest("lost")
    held = "sum(pageferry_destination_memory_reserved_bytes{use='incoming'})"
    until(lambda: stack.query(held) == [0], "the destination gives the memory back")
    docker("start", stack.container("source"))
    stack.wait_healthy("source")
    with stack.operator() as client:
        boot(client, "next", "hotcold:wss=8MiB")
        moves(client, "next")


def test_the_destination_is_paused(stack: Stack) -> None:
    """A machine that stands still for a moment costs time and nothing else."""
    with under_way(stack, "patient") as (client, pictures):
        docker("pause", stack.container("destination"))
        before = next(pictures)
        time.sleep(2)
        docker("unpause", stack.container("destination"))
        later = next(each for each in pictures if len(each.rounds) > len(before.rounds) + 1)
        assert later.state == pb.MIGRATION_STATE_PRE_COPY, later
        client.cancel(later.migration_id)
        assert settled(pictures).state == pb.MIGRATION_STATE_CANCELLED
        stack.wait_healthy()
        moves(client, "patient")


def test_a_restart_gives_the_migration_up_and_keeps_the_guest(stack: Stack) -> None:
    with under_way(stack, "kept") as (client, pictures):
        docker("restart", "--time", "20", stack.container("destination"))
        ended = settled(pictures)
        assert ended.state == pb.MIGRATION_STATE_FAILED
        assert client.guest("kept").state == common_pb2.GUEST_STATE_RUNNING
        assert stack.inspect("destination")["RestartCount"] == 0
        stack.wait_healthy("destination")
        moves(client, "kept")


def test_what_the_containers_may(stack: Stack) -> None:
    for service in ("source", "destination"):
        facts = stack.inspect(service)
        assert facts["Config"]["User"].split(":")[0] not in {"", "0", "root"}
        assert facts["HostConfig"]["ReadonlyRootfs"]
        assert facts["HostConfig"]["CapDrop"] == ["ALL"]
        status = stack.execute(service, "cat", "/proc/1/status")
        caps = next(line for line in status.splitlines() if line.startswith("CapEff"))
        assert int(caps.split()[1], 16) == 0
        written = stack.execute(service, "python3", "-c", _TRY_TO_WRITE)
        assert written == "/tmp"  # noqa: S108 - the one place


_TRY_TO_WRITE = """
import pathlib
for folder in ("/", "/opt/pageferry", "/etc", "/var/tmp", "/tmp", "/etc/pageferry/tls"):
    try:
        (pathlib.Path(folder) / "x").write_text("")
        print(folder)
    except OSError:
        pass
"""


def test_no_compiler_and_nothing_compiled_at_run_time(stack: Stack) -> None:
    for service in ("source", "destination"):
        found = stack.execute(
            service, "sh", "-c", "command -v gcc cc g++ clang tcc as ld make pip pip3 || true"
        )
        assert found == ""
        shipped = stack.execute(
            service, "sh", "-c", "find $PAGEFERRY_KERNELS -name '*.nbc' | wc -l"
        )
        copied = stack.execute(
            service, "sh", "-c", "find /tmp/pageferry-kernels-* -name '*.nbc' | wc -l"
        )
        # Every migration of these tests ran by now, and no kernel had to be compiled for it.
        assert int(shipped) > 20
        assert copied == shipped


def test_hosts_can_be_reached_from_this_machine_alone(stack: Stack) -> None:
    for service, port in (("source", 50051), ("destination", 50052)):
        published = stack.inspect(service)["NetworkSettings"]["Ports"]
        bound = {name: {each["HostIp"] for each in to} for name, to in published.items() if to}
        assert bound == {f"{port}/tcp": {"127.0.0.1"}}
