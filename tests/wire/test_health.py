"""`source-host health` and `dest-host health`: they find their own host, and say how it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import pytest
from click.testing import CliRunner

import dest_host.cli
import source_host.cli
from pageferry import certs
from tests.security.authority import SOURCE
from wire.address import as_dialled
from wire.hosting.metrics import host_registry
from wire.hosting.serve_settings import ServeSettings
from wire.hosting.serving import Server

HOSTS = {"SOURCE_HOST": source_host.cli.cli, "DEST_HOST": dest_host.cli.cli}


@pytest.fixture
def serving() -> Iterator[Server]:
    with _server(ServeSettings()) as server:
        yield server


def _server(settings: ServeSettings) -> Server:
    return Server("test", settings, [], registry=host_registry("source"))


def asked(cli: click.Group, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status, and the line that is said."""
    ended = CliRunner().invoke(cli, ["health", *arguments], env=environment)
    return ended.exit_code, ended.output.strip()


@pytest.mark.parametrize("prefix", HOSTS)
def test_a_host_is_found_by_the_settings_that_it_serves_with(
    serving: Server, prefix: str, tmp_path: Path
) -> None:
    cli, file = HOSTS[prefix], tmp_path / "host.toml"
    assert asked(cli, "--listen", serving.address) == (0, "SERVING")
    assert asked(cli, **{f"{prefix}_LISTEN": serving.address}) == (0, "SERVING")
    file.write_text(
        f'listen = "{serving.address}"\nmetrics-port = 9101\nmax-total-memory = "1GiB"\n'
    )
    assert asked(cli, "--config", str(file)) == (0, "SERVING")
    assert asked(cli, **{f"{prefix}_CONFIG": str(file)}) == (0, "SERVING")


def test_a_host_that_listens_everywhere_is_asked_on_loopback(serving: Server) -> None:
    port = serving.address.rpartition(":")[2]
    assert asked(source_host.cli.cli, "--listen", f"0.0.0.0:{port}") == (0, "SERVING")
    assert as_dialled("[::]:7") == "[::1]:7"
    for other in ("10.0.0.7:7", "[fe80::1]:7", "localhost:7", "unix:/run/host.sock"):
        assert as_dialled(other) == other


def test_a_host_that_does_not_serve(serving: Server) -> None:
    serving._health.enter_graceful_shutdown()
    assert asked(source_host.cli.cli, "--listen", serving.address) == (1, "NOT_SERVING")
    serving.stop(0)
    said = f"no answer from {serving.address}: UNAVAILABLE"
    assert asked(source_host.cli.cli, "--listen", serving.address) == (1, said)


def test_its_certificate_need_not_name_loopback(tmp_path: Path) -> None:
    with mock.patch.object(certs, "LOOPBACK", ()):
        certs.make(tmp_path, [SOURCE], 30, renew=False)
    tls = tmp_path / "source"
    with _server(ServeSettings(tls=tls)) as server:
        ended = asked(source_host.cli.cli, "--listen", server.address, "--tls", str(tls))
    assert ended == (0, "SERVING")
