"""The compose file's services on a real engine, and hands to do them harm with."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pageferry.source_client import SourceClient
from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from wire.trust.security import Security

DESTINATION = "destination:50052"
_TIMEOUT_S = 90.0
MIB = 2**20


def docker(*arguments: str, check: bool = True) -> str:
    """Run a docker command; what it printed."""
    ended = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    if check and ended.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {ended.stderr}")
    return ended.stdout.strip()


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


@dataclass(frozen=True)
class Stack:
    """Source, destination and Prometheus in containers.

    Attributes:
        project: name that compose gave its containers and networks.
        certs: directory of the certificates.
        source: address of the source host on this machine.
        destination: of the destination host.
        prometheus: URL of Prometheus on this machine.
    """

    project: str
    certs: Path
    source: str
    destination: str
    prometheus: str

    def container(self, service: str) -> str:
        """Name of a service's container, with either compose's way to name them."""
        names = docker("ps", "--all", "--format", "{{.Names}}", "--filter",
                       f"label=com.docker.compose.project={self.project}", "--filter",
                       f"label=com.docker.compose.service={service}")  # fmt: skip
        return names.splitlines()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """Everything that Docker knows of a service's container."""
        (found,) = json.loads(docker("inspect", self.container(service)))
        return dict(found)

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container."""
        return docker("exec", self.container(service), *command)

    def healthy(self, service: str) -> bool:
        """Whether its health check says so."""
        return bool(self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy")

    def wait_healthy(self, *services: str) -> None:
        """Until they all are."""
        for service in services or ("destination", "source"):
            until(lambda: self.healthy(service), f"{service} is healthy")  # noqa: B023

    @property
    def private(self) -> str:
        """Name of the network between the hosts."""
        return f"{self.project}_private"

    def operator(self) -> SourceClient:
        """Somebody at this machine who controls the source host."""
        security = Security.of(self.certs / "operator", insecure=False)
        return SourceClient(self.source, security)

    def query(self, expression: str) -> list[float]:
        """What Prometheus answers: the value of each series."""
        url = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own
            document = json.load(answer)
        return [float(series["value"][1]) for series in document["data"]["result"]]


def boot(client: SourceClient, name: str, workload: str, memory_mib: int = 64) -> None:
    """A running guest."""
    client.create_guest(
        common_pb2.GuestSpec(
            guest_id=name, memory_bytes=memory_mib * MIB, workload=workload, seed=5
        )
    )
    client.start_guest(name)


def quick(name: str) -> pb.MigrateRequest:
    """A migration that comes to its end by itself."""
    return pb.MigrateRequest(guest_id=name, destination=DESTINATION, clock=common_pb2.CLOCK_REAL)


def endless(name: str) -> pb.MigrateRequest:
    """One that goes on until it is ended: the guest writes more than any downtime allows."""
    return pb.MigrateRequest(
        guest_id=name,
        destination=DESTINATION,
        clock=common_pb2.CLOCK_REAL,
        policy=pb.POLICY_QEMU,
        downtime_limit_ns=1,
        max_rounds=10_000,
    )


BUSY = "uniform:wss=32MiB,write_rate=2M"
