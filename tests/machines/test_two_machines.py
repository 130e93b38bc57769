"""Two machines with addresses of their own, a wire of 200 Mbit/s, and certificates."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pageferry.certs import make
from pageferry.holders import Holder
from tests.machines.lan import RATE_BITS_PER_S, Host, Lan
from wire.trust.access import Role


@dataclass(frozen=True)
class Desk:
    """Both machines with their hosts running."""

    lan: Lan
    certs: Path
    source: str
    destination: str

    def pageferry(self, *arguments: str) -> list[str]:
        """The command line of an operator at the first machine."""
        return self.lan.command(
            0, "-m", "pageferry.cli.main", "migrate", "--clock", "real", "--memory", "48MiB",
            "--fill", "random", "--source", self.source, "--dest", self.destination,
            "--tls", str(self.certs / "operator"), *arguments,
        )  # fmt: skip


@contextmanager
def two_machines(certs: Path, bits_per_s: int, idle_expiry: str) -> Iterator[Desk]:
    """Two machines and their wire."""
    one, other = Lan.addresses
    holders = [Holder("rack1", Role.SOURCE, (one,)), Holder("rack2", Role.DESTINATION, (other,)),
               Holder("operator", Role.OPERATOR)]  # fmt: skip
    make(certs, holders, 2, renew=False)
    with ExitStack() as stack:
        lan = stack.enter_context(Lan(bits_per_s))
        source = Host(lan, 0, "source_host", ["--tls", str(certs / "rack1")])
        stack.enter_context(source)
        listed = ["--sources", "rack1", "--idle-expiry", idle_expiry]
        destination = Host(lan, 1, "dest_host", ["--tls", str(certs / "rack2"), *listed])
        stack.enter_context(destination)
        yield Desk(lan, certs, source.address, destination.address)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Two machines and a wire of a good office."""
    with two_machines(tmp_path_factory.mktemp("certs"), RATE_BITS_PER_S, "3s") as desk:
        yield desk


def migrated(desk: Desk, result: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = desk.pageferry("--json", str(result), "--quiet", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)


def test_a_guest_crosses_the_wire(desk: Desk, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    ended = migrated(desk, result, "--workload", "idle:wss=4MiB")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(result.read_text())
    assert document["outcome"] == "completed"
    assert document["verified"]
    # What the wire lets through, and a burst: nothing is faster, however quick the machine is.
    fastest_s = (document["bytes"]["wire"] * 8 - 10_000_000) / RATE_BITS_PER_S
    assert document["time"]["total_s"] > fastest_s > 1.0


def test_the_plug_is_pulled_in_the_middle(desk: Desk, tmp_path: Path) -> None:
    busy = ["--workload", "uniform:wss=24MiB,write_rate=2M", "--policy", "qemu",
            "--downtime-limit", "1us", "--max-rounds", "1000"]  # fmt: skip
    with subprocess.Popen(
        desk.pageferry(*busy), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("round 2"))
        desk.lan.plug(in_=False)
        try:
            _, said = process.communicate(timeout=100)
        finally:
            desk.lan.plug(in_=True)
            process.kill()
    assert process.returncode == 1
    assert "answered before and does not any more" in said.splitlines()[-1]
    # And the next one goes through, once the destination has given up the first.
    ended = migrated(desk, tmp_path / "result.json", "--workload", "idle:wss=4MiB")
    assert ended.returncode == 0, ended.stderr


def test_a_machine_without_a_certificate_gets_nothing(desk: Desk) -> None:
    command = [part for part in desk.pageferry("--quiet") if part != "--tls"]
    command.remove(str(desk.certs / "operator"))
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "is not on this machine" in ended.stderr
    insecure = subprocess.run(
        [*command, "--insecure"], capture_output=True, text=True, check=False, timeout=60
    )
    assert insecure.returncode == 1
    assert "it wants a certificate and this side showed none" in insecure.stderr


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_a_guest_crosses_a_wire_that_is_a_thousand_times_slower(tmp_path: Path, clock: str) -> None:
    # On the virtual clock a message is as long as the model has it: 2 MiB, half a minute, and
    # the destination waits for ten seconds of silence (a busy machine stands still for three).
    with two_machines(tmp_path / "certs", 512_000, "10s") as desk:
        small = ["--memory", "2MiB", "--workload", "idle", "--zstd-level", "0"]
        ended = migrated(desk, tmp_path / "result.json", *small, "--clock", clock)
    assert ended.returncode == 0, ended.stderr
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["outcome"] == "completed"
    assert document["bytes"]["wire"] > 15 * 2**17
