"""Trying again: a guest that a failure left where it was is migrated by the line that said so."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import xxhash
from click.testing import CliRunner

from pageferry import room
from pageferry.cli.main import main
from pageferry.cli.migrate import migrate
from pageferry.cli.sections import in_sections
from pageferry.settings import SETTINGS
from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from paging_core.errors import BadOption
from paging_core.kinds import Choice, Flag
from tests.journey.hosts import Destination, Pair, new_name, spec, start, until
from tests.pageferry.hosts import SMALL, pageferry

TRACE = Path(__file__).parents[2] / "examples" / "traces" / "sqlite.parquet"


@pytest.fixture(scope="module")
def serving() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.fixture
def pair(serving: Pair) -> Iterator[Pair]:
    yield serving
    serving.forget_guests()


def document(file: Path) -> dict[str, Any]:
    """A result."""
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def last_line(stderr: str) -> str:
    """What a command said at its end."""
    return stderr.splitlines()[-1]


def test_the_runbooks_try_again(pair: Pair, tmp_path: Path) -> None:
    """The destination is down, the migration fails; it is started, and the advice is followed."""
    source = pair.source.address
    failed, again = tmp_path / "failed.json", tmp_path / "again.json"
    with socket.socket() as holder:  # nobody listens there, and nobody else is given the port
        holder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        options = [*SMALL, "--seed", "7", "--group-pages", "8", "--no-progress"]
        where = ["--source", source, "--dest", address, "--json", str(failed)]
        done = pageferry("migrate", *options, *where)
    assert done.returncode == 1
    line = last_line(done.stderr)
    assert f"no host answers at {address}" in line
    assert "the guest goes on at the source; migrate it again with: pageferry migrate" in line
    command = shlex.split(line.partition("migrate it again with: ")[2])
    assert document(failed)["outcome"] == "failed"

    with Destination(start("dest_host", listen=address)) as destination:
        done = pageferry(*command[1:], "--no-progress", "--json", str(again))
        assert done.returncode == 0, done.stderr
        result = document(again)
        assert (result["outcome"], result["verified"]) == ("completed", True)
        # Nobody repeated the guest's settings: they are what its source says.
        assert result["config"] == document(failed)["config"]
        guest_id = command[command.index("--guest") + 1]
        assert destination.guest(guest_id).memory_bytes == 8 << 20
        gone = pageferry(*command[1:], "--no-progress")
        assert gone.returncode == 1
        assert f"is moved (moved to {address}) and cannot be migrated" in last_line(gone.stderr)
        assert f"the guest is at the destination; its name is {guest_id}" in last_line(gone.stderr)
    pair.source.delete(guest_id)


def test_a_guest_that_replays_a_trace_is_told_by_its_content(pair: Pair, tmp_path: Path) -> None:
    guest = common_pb2.GuestSpec(guest_id=new_name(), memory_bytes=64 << 20, trace=str(TRACE))
    name, target = pair.source.boot(guest, running=False), tmp_path / "result.json"
    where = ["--source", pair.source.address, "--dest", pair.destination.address]
    done = pageferry("migrate", "--guest", name, *where, "--quiet", "--json", str(target))
    assert done.returncode == 0, done.stderr
    digest = xxhash.xxh3_64_hexdigest(TRACE.read_bytes())
    assert document(target)["config"]["trace"] == {"file": TRACE.name, "xxh3_64": digest}


def test_a_destination_that_answered_is_not_looked_for_elsewhere(pair: Pair) -> None:
    source = pair.source
    name = source.boot(spec(new_name(), "uniform:wss=6MiB,write_rate=20M"))
    with Destination(start("dest_host")) as destination:
        migration = source.migrate(
            name, destination.address, clock=common_pb2.CLOCK_REAL, policy=pb.POLICY_QEMU,
            downtime_limit_ns=1, max_rounds=10_000,
        )  # fmt: skip
        until(lambda: source.status(migration).state == pb.MIGRATION_STATE_PRE_COPY)
        destination.kill()
        status = source.follow(migration)
    assert status.state == pb.MIGRATION_STATE_FAILED
    assert (
        f"the host at {destination.address} answered before and does not any more" in status.error
    )
    assert "correct the address" not in status.error
    assert status.guest_state == common_pb2.GUEST_STATE_RUNNING
    rows = json.loads(pageferry("migrations", source.address, "--json").stdout)["migrations"]
    (row,) = (row for row in rows if row["migration"] == migration)
    assert (row["state"], row["where"]) == ("failed", "the guest goes on at the source")
    # What is known of a failure stays true of it when the guest moves on later.
    source.follow(source.migrate(name, pair.destination.address))
    assert source.status(migration).guest_state == common_pb2.GUEST_STATE_RUNNING


def test_a_guest_that_is_not_there(pair: Pair) -> None:
    where = ["--source", pair.source.address, "--dest", pair.destination.address]
    done = pageferry("migrate", "--guest", "nobody", *where, "--no-progress")
    assert done.returncode == 1
    assert last_line(done.stderr) == (
        "error: no guest 'nobody' on this host; pageferry guests lists those that it has"
    )


def test_a_guest_that_did_not_boot_is_nowhere(pair: Pair) -> None:
    where = ["--source", pair.source.address, "--dest", pair.destination.address]
    done = pageferry("migrate", "--memory", "900GiB", "--workload", "idle", *where, "--no-progress")
    assert done.returncode == 1
    assert last_line(done.stderr).endswith("; no guest was booted")
    with pytest.raises(grpc.RpcError):
        pair.source.guest("nobody")


VALUES = {
    one.option: next(iter(one.kind.of)) if isinstance(one.kind, Choice) else one.default
    for one in SETTINGS.values()
    if not isinstance(one.kind, Flag)
} | {"--workload": "idle", "--trace": "x", "--costs": "x"}
"""Something that each option takes."""
HERE = ["--guest", "web", "--source", "127.0.0.1:1", "--dest", "127.0.0.1:2"]


@pytest.mark.parametrize(
    "option",
    [param.opts[0] for param in in_sections(migrate, "The guest", "How its writes are tracked")],
)
def test_what_a_guest_was_booted_with_is_not_said_again(option: str) -> None:
    value = [str(VALUES[option])] if option in VALUES else []
    result = CliRunner().invoke(main, ["migrate", *HERE, option, *value])
    assert result.exit_code == 2
    assert (
        f"{option} is settled when a guest boots, and --guest names one that did" in result.stderr
    )


def test_a_guest_is_at_a_host() -> None:
    result = CliRunner().invoke(main, ["migrate", "--guest", "web"])
    assert result.exit_code == 2
    assert "give --source and --dest too" in result.stderr


def test_what_this_machine_has_left_is_the_least_of_its_limits(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 32000000 kB\nMemAvailable: 16777216 kB\n")
    assert room.available_bytes(meminfo, tmp_path) == 16 << 30
    for name, value in (("memory.max", f"{6 << 30}\n"), ("memory.current", f"{2 << 30}\n")):
        (tmp_path / name).write_text(value)
    assert room.available_bytes(meminfo, tmp_path) == 4 << 30
    (tmp_path / "memory.max").write_text("max\n")
    assert room.available_bytes(meminfo, tmp_path) == 16 << 30
    assert room.available_bytes(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(
    ("arguments", "often", "use"),
    [
        (
            ["9GiB"],
            "three times",
            "--memory 1365MiB or less, --no-twin and --memory 2048MiB or less",
        ),
        (["2GiB"], "three times", "--no-twin, --memory 1365MiB or less"),
        (["9GiB", "--no-twin"], "twice", "--memory 2048MiB or less"),
    ],
)
def test_more_than_this_machine_holds_is_refused_with_what_it_can_hold(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], often: str, use: str
) -> None:
    """Guest, destination and twin take memory; what is advised fits, and not a MiB more does."""
    monkeypatch.setattr(room, "available_bytes", lambda: 4 << 30)
    result = CliRunner().invoke(main, ["migrate", "--workload", "idle", "--memory", *arguments])
    assert result.exit_code == 2
    assert f"exists {often}" in result.stderr
    assert f"left; use {use}, or hosts on two machines (--source, --dest)\n" in result.stderr
    for copies, fits in ((2, 2048), (3, 1365)):
        room.check_room(fits << 20, twin=copies == 3)
        with pytest.raises(BadOption):
            room.check_room((fits + 1) << 20, twin=copies == 3)
