"""Two hosts with certificates, shared: starting them takes longer than the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pageferry.source_client import SourceClient
from tests.security.authority import certified
from wire.hosting.launch import HostProcess
from wire.trust.security import Security


@dataclass(frozen=True)
class Secured:
    """A source and a destination that speak TLS, and the certificates of everybody."""

    certs: Path
    source: HostProcess
    destination: HostProcess

    def client(self, who: str) -> SourceClient:
        """Somebody at the source host."""
        return SourceClient(self.source.ready.address, self.identity(who))

    def identity(self, who: str) -> Security:
        return Security.of(self.certs / who, insecure=False)


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One authority and its certificates."""
    return certified(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the two hosts logged, every detail."""
    folder = tmp_path_factory.mktemp("logs")
    return folder / "source.log", folder / "destination.log"


@pytest.fixture(scope="session")
def secured(certs: Path, logs: tuple[Path, Path]) -> Iterator[Secured]:
    """Both hosts."""
    common = ["--log-level", "debug", "--metrics-port", "0", "--tls"]
    with logs[0].open("wb") as one, logs[1].open("wb") as other:
        source = HostProcess("source_host", [*common, str(certs / "source")], log=one, wait=False)
        destination = HostProcess(
            "dest_host",
            [*common, str(certs / "destination"), "--sources", "source,rack2"],
            log=other,
            wait=False,
        )
        with source, destination:
            source.wait_ready()
            destination.wait_ready()
            yield Secured(certs, source, destination)
